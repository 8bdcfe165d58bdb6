"""The door to the outside: webhooks in, signed pages out, health.

- `app`: all of it as one ASGI application
- `site`: what every page is given: the installation, its database, the clock
- `limit`: who calls, and how often he may
- `pace`: how often pages take an answer
- `server`: the application on a port, closed to whoever is slow
- `webhooks`: vendors' calls verified, kept and answered
- `health`: whether the process lives, and can do its work
- `metrics`: what is measured, as Prometheus reads it
- `page`: how a page is shown: language, layout, security headers; what is shown in place of one
- `form`: what a form said
- `guard`: who may: tokens, looked up anew with every request
- `access`: a line of the log for each page that is asked for
- `shield`: what every answer carries
- `extension`: plugins' pages, each plugin's under its own path and behind its scope
- `crm`: what a page of a plugin is given
- `order`: what was bought and paid, where the parcels are, what is promised
- `statement`: a customer's account with a shop, confirmed or disputed entry by entry
- `unsubscribe`: no more offers, by one click
- `preferences`: what is sent by each channel, and what of it is wanted
- `survey`: the questions a plugin asks, answered once
- `contact`: an address is left, and proven with a code

`templates/` are the pages, `words/` what they say in each language, `static/` how they look.
"""
