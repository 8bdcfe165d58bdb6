"""Text messages out and back: one module per vendor, each an entry point `sms.<slug>`.

In the order a message goes:

- `twilio`: the gateway of Twilio
- `twilio_settings`: as whom it sends, and from where
- `twilio_shape`: what Twilio writes
- `twilio_log`: Twilio's log of messages, and what is certain by it
- `twilio_likeness`: whether a message in Twilio's log could be one of ours
- `twilio_code`: what Twilio's error codes mean
- `twilio_signature`: how Twilio signs its webhooks
- `http`: the gateway that is described in the configuration, for vendors nobody has written yet
- `http_settings`: how it is described, checked before anything is sent
- `filling`: placeholders, filled in as each format wants it
- `answer`: what an answer or a webhook says, by the places the configuration names
- `echo`: what a vendor says, without what it repeats of ours
"""
