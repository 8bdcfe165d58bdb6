"""What the crash tests are made of; it runs in processes of its own, with this folder's parent on the path.

- `shop`: a small shop in files, on its first day and grown on its second: its configuration and its exports
- `playbook`: the shop's own playbook, which counts its calls
- `gateways`: a plugin with a gateway of each kind, and what their vendors say by webhook
- `vendors`: the fake vendors of those gateways, in a process of their own
- `sink`: an SMTP server that writes down every mail before it answers
- `points`: where a process can be made to kill or freeze itself, and what these places are called
- `nursery`: forks processes that run the real engine, and kills or freezes them
- `yard`: forks workers of the distributed engine
- `process`: a helper process, spoken to line by line
- `check`: what must hold afterwards
- `game`: rounds of kills, and what they found
- `fleet`: rounds with four workers, and every kind of trouble
- `figures`: what all rounds came to, in a table
"""
