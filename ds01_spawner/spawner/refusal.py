"""An error of ours as JupyterHub shows it: one sentence on every page, the cause in the log."""

from __future__ import annotations

from html import escape

from jupyterhub.spawner import SpawnException

from ..errors import BuildFailed, DS01Error, RequestRefused
from ..metrics import REFUSALS, Asked
from ..templating import environment


class SpawnRefused(SpawnException):  # type: ignore[misc]
    """A `DS01Error` for the Hub.

    JupyterHub's form and progress stream show an exception's `jupyterhub_message` where it has one,
    else its repr with the log text; REST and the error page show `message`. All get the sentence.
    """

    def __init__(self, error: DS01Error) -> None:
        log_message = f"{error.message} [{error.detail}]" if error.detail else error.message
        super().__init__(
            error.message,
            reason=error.reason,
            # tornado formats it with %, and a student's words may hold one
            log_message=log_message.replace("%", "%%"),
            message_html=escape(error.message),
            status_code=error.status_code,
        )
        REFUSALS.labels(Asked.START.value, error.reason).inc()
        self._html = _show_build(error) if isinstance(error, BuildFailed) and error.lines else None

    @property
    def jupyterhub_message(self) -> str:
        """The sentence, as text."""
        return str(self.message)

    @property
    def jupyterhub_html_message(self) -> str | None:
        """The sentence with the log of a build that failed; else None, and the Hub's pages show the text."""
        return self._html


def _show_build(error: BuildFailed) -> str:
    return environment().get_template("build_failed.html").render(error=error)


class OnlyAForm(RequestRefused):
    """Raised for a link with options: it fills the form, and never starts a server by itself."""

    reason = "form"
    jupyterhub_message = None
    jupyterhub_html_message = None
