"""What the Hub's pages need to ask the service for news: its address, and a token of who looks at them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from jupyterhub import orm
from jupyterhub.utils import url_path_join
from traitlets.config import LoggingConfigurable

from ..site import SERVICE_NAME

NOTE = "Pages of the Hub that show what is free (DS01)"
# A page that stands open longer says that it has to be loaded anew.
_TOKEN_SECONDS = 4 * 3600
_LEFT_SECONDS = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class NewsLink:
    """Where a page of the Hub asks for news, and with which token; both "" where it cannot."""

    url: str = ""
    token: str = ""


class PageNews(LoggingConfigurable):
    """The part of the spawner that lets pages ask the service; a mixin of a Spawner."""

    user: Any
    _tokens: ClassVar[dict[str, str]] = {}

    def news_link(self, reader: Any) -> NewsLink:
        """Return how a page that `reader`, a user of the Hub, looks at asks the service.

        The token lets her do at the service what she may do there anyway, and nothing at the Hub but read
        her own groups. She has one at a time, and it is in none but her own pages.
        """
        service = self.user.settings.get("services", {}).get(SERVICE_NAME)
        if service is None or not service.url or reader is None:
            return NewsLink()
        url = url_path_join(self.user.settings.get("base_url", "/"), "services", SERVICE_NAME, "/")
        try:
            return NewsLink(url=url, token=self._find_token(reader))
        except ValueError as exc:
            # Her roles do not let her enter the service.
            self.log.info("the pages of %s show no news: %s", reader.name, exc)
            return NewsLink()

    def _find_token(self, reader: Any) -> str:
        tokens = type(self)._tokens
        known = orm.APIToken.find(self.user.db, tokens[reader.name]) if reader.name in tokens else None
        if known is None or known.expires_in < _LEFT_SECONDS:
            scopes = [f"access:services!service={SERVICE_NAME}", f"read:users:groups!user={reader.name}"]
            tokens[reader.name] = reader.new_api_token(note=NOTE, expires_in=_TOKEN_SECONDS, scopes=scopes)
        return tokens[reader.name]
