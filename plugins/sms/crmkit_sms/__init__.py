"""Text messages out and back: one module per vendor, each an entry point `sms.<slug>`.

In the order a message goes:

- `twilio`: the gateway of Twilio
- `twilio_settings`: as whom it sends, and from where
- `twilio_shape`: what Twilio writes
- `twilio_log`: Twilio's log of messages, and what is certain by it
- `twilio_likeness`: whether a message in Twilio's log could be one of ours
- `twilio_code`: what Twilio's error codes mean
- `twilio_signature`: how Twilio signs its webhooks
- `aliyun`: the gateway of Alibaba Cloud
- `aliyun_settings`: as whom it sends
- `aliyun_signature`: how requests to it are signed
- `aliyun_shape`: what it writes
- `aliyun_code`: what its codes mean
- `aliyun_log`: its log of messages, and what is certain by it
- `aliyun_push`: what it calls with
- `aliyun_review`: how templates and signs stand with it
- `tencent`: the gateway of Tencent Cloud
- `tencent_settings`: as whom it sends
- `tencent_signature`: how requests to it are signed
- `tencent_shape`: what it writes
- `tencent_code`: what its codes mean
- `tencent_push`: what it calls with
- `tencent_review`: how templates, signs and packages stand with it
- `approved`: what the gateways of mainland China have in common
- `mainland`: what goes for text messages of mainland China, whichever vendor sends them
- `bundle`: messages that go in one call, and what came of each
- `http`: the gateway that is described in the configuration, for vendors nobody has written yet
- `http_settings`: how it is described, checked before anything is sent
- `filling`: placeholders, filled in as each format wants it
- `answer`: what an answer or a webhook says, by the places the configuration names
- `endpoint`: where a vendor answers
- `echo`: what a vendor says, without what it repeats of ours
"""
