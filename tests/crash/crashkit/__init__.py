"""What the crash tests are made of; it runs in processes of its own, with this folder's parent on the path.

- `shop`: a small shop in files, on its first day and grown on its second, with a playbook that counts its calls
- `sink`: an SMTP server that writes down every mail before it answers
- `points`: where a process can be made to kill itself
- `nursery`: forks processes that run the real engine, and kills them
- `process`: a helper process, spoken to line by line
- `check`: what must hold afterwards
"""
