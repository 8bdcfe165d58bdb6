"""The door to the outside: webhooks in, signed pages out, health.

- `app`: all of it as one ASGI application
- `site`: what every page is given: the installation, its database, the clock
- `page`: how a page is shown: language, layout, security headers; what is shown in place of one
- `form`: what a form said
- `unsubscribe`: no more offers, by one click
- `preferences`: what is sent by each channel, and what of it is wanted

`templates/` are the pages, `words/` what they say in each language, `static/` how they look.
"""
