"""The lab's page, and the files that our pages load; all of it is the same origin's as the Hub."""

from __future__ import annotations

from http.client import responses
from typing import Any

from tornado.web import StaticFileHandler

from ...templating import environment
from .handlers import Handler

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        # Bootstrap's own stylesheet has its small pictures in itself.
        "img-src 'self' data:",
        "connect-src 'self'",
        "font-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)


class Page(Handler):
    """`/`: the lab's page; a browser that nobody knows signs in at the Hub first."""

    async def get(self) -> None:
        """Show the GPUs, and to admins what goes on; all of it also without scripts."""
        if self.caller is None:
            self.redirect(self.get_login_url())
            return
        caller, hub_auth = self.require_caller(), self.rooms.hub_auth
        assert hub_auth is not None
        lab = await self.call(self.rooms.desk.look, caller)
        self.set_header("Content-Type", "text/html; charset=UTF-8")
        self.set_header("Content-Security-Policy", _POLICY)
        self.set_header("Referrer-Policy", "same-origin")
        self.write(
            environment()
            .get_template("lab.html")
            .render(
                lab=lab,
                name=caller.name,
                hub=hub_auth.hub_prefix,
                here=hub_auth.base_url,
                sees_admin_page="admin-ui" in caller.scopes,
                # For our script, which sends it with each request: a cookie alone is not enough.
                xsrf=self.xsrf_token.decode("ascii"),
            )
        )


class StaticFile(StaticFileHandler):
    """`/static/NAME`: our scripts and our stylesheet, the same for everybody."""

    def set_default_headers(self) -> None:
        """Let a browser keep it, and ask each time whether it has changed; and take it for what it is."""
        self.clear_header("Server")
        self.set_header("Cache-Control", "no-cache")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer as all other addresses do."""
        phrase = responses.get(status_code, "refused").lower()
        self.finish({"message": f"There is no such file: {phrase}.", "reason": phrase.replace(" ", "-")})
