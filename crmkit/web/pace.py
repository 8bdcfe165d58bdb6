"""How often pages take an answer: by one link, and from one caller. Looking at them is not counted."""

import math

from fastapi import Request

from crmkit.web.limit import Buckets, Callers, Rate
from crmkit.web.site import PageError, Site

#: Answers by one link.
OF_LINK = Rate(30 / 60, 30)
#: Answers of one caller: a family, an office.
OF_CALLER = Rate(120 / 60, 120)
#: Of one mail provider, which unsubscribes its readers from few addresses.
OF_PROVIDER = Rate(20, 1_200)
#: Where mail providers call.
_ONE_CLICK = "/u/"


class Pace:
    """Counts answers, and says when there are too many.

    Args:
        site: the installation.
        of_link, of_caller, of_provider: how many are taken.
    """

    def __init__(
        self, site: Site, of_link: Rate = OF_LINK, of_caller: Rate = OF_CALLER, of_provider: Rate = OF_PROVIDER
    ) -> None:
        self.callers = Callers(site.local.host.config.web.proxies)
        self.of_link, self.of_caller, self.of_provider = Buckets(of_link), Buckets(of_caller), Buckets(of_provider)

    def take(self, request: Request) -> None:
        """Count an answer.

        Raises:
            PageError: there were too many.
        """
        token, caller = request.path_params["token"], self.callers.of(request.scope)
        is_one_click = request.scope["route"].path.startswith(_ONE_CLICK)
        counted = [(self.of_provider if is_one_click else self.of_caller, caller), (self.of_link, token)]
        if wait := max(buckets.wait(key) for buckets, key in counted):
            raise PageError(429, "busy", again=math.ceil(wait))
        for buckets, key in counted:
            buckets.take(key)


async def paced(request: Request) -> None:
    """A dependency: answers come no faster than they may."""
    if request.method == "POST":
        pace: Pace = request.app.state.pace
        pace.take(request)
