"""Mail out: one module per way to send it, each an entry point `email.<slug>`.

In the order a mail goes:

- `address`: e-mail addresses as the wire wants them
- `mime`: what a mail looks like on the wire
- `folder`: the gateway that writes mail into a folder
- `smtp`: the gateway that sends mail through an SMTP server
- `pool`: its connections, kept while they are good
- `connection`: one of them, and what may have left when it is lost
- `status`: what a server's refusal means
"""
