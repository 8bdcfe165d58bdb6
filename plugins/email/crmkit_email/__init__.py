"""Mail out: one module per way to send it, each an entry point `email.<slug>`.

In the order a mail goes:

- `address`: e-mail addresses as the wire wants them
- `mime`: what a mail looks like on the wire
- `folder`: the gateway that writes mail into a folder
- `smtp`: the gateway that sends mail through an SMTP server
- `pool`: its connections, kept while they are good
- `connection`: one of them, and what may have left when it is lost
- `status`: what a server's refusal means
- `machine`: which hosts are this machine

Vendors with an API of their own share:

- `heading`: recipient, sender and headers, each in a field
- `api`: where it is, what can be told in its fields, what it tells
- `origin`: which news are about messages of ours
- `part`: a batch that is refused as a whole, in parts
- `quote`: what a vendor says, as it may be shown

- `sendgrid`: the gateway that sends mail through SendGrid
- `sendgrid_settings`: as whom, and from where
- `sendgrid_request`: one request for many mails that differ
- `sendgrid_signature`: how its webhook is signed
- `sendgrid_event`: what its webhook tells
- `sendgrid_list`: the addresses it keeps mail from
- `sendgrid_check`: what doctor says of an account

- `postmark`: the gateway that sends mail through Postmark
- `postmark_settings`: as whom, and by which streams
- `postmark_code`: what its error codes and kinds of bounces mean
- `postmark_shape`: what it is sent, and what it answers
- `postmark_event`: what its webhooks tell
- `postmark_log`: its log of messages, and its lists of addresses
- `postmark_check`: what doctor says of a server
"""
