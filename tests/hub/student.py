"""A student at her browser: she signs in, fills the form, watches the pending page, runs code."""

from __future__ import annotations

import html
import json
import re
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from websockets.sync.client import connect

from .lab import Person
from .waiting import wait_for

PASSWORD = "a password for tests"
READY_SECONDS = 240
CODE_SECONDS = 60


class Student:
    """One person's session with the Hub at `url`."""

    def __init__(self, url: str, person: Person, *, password: str = PASSWORD) -> None:
        self.person = person
        self._password = password
        self._url = url
        self._browser = httpx.Client(base_url=url, follow_redirects=True, timeout=90, trust_env=False)
        self._token = ""

    @property
    def name(self) -> str:
        return self.person.name

    def close(self) -> None:
        """Close the browser."""
        self._browser.close()

    # pages -----------------------------------------------------------------------------------------

    def sign_in(self) -> None:
        """Sign in through the login page."""
        page = self._browser.get("/hub/login")
        assert 'name="password"' in page.text
        fields = {
            "username": self.name,
            "password": self._password,
            "_xsrf": self._browser.cookies.get("_xsrf", ""),
        }
        answer = self._browser.post("/hub/login", data=fields)
        assert answer.status_code == 200, answer.text
        assert self.model()["name"] == self.name

    def page(self, path: str) -> httpx.Response:
        """GET a page of the Hub or of a server."""
        return self._browser.get(path)

    def form(self, server: str = "", *, query: str = "") -> httpx.Response:
        """GET the options form."""
        return self._browser.get(self._spawn_path(server) + (f"?{query}" if query else ""))

    def post_form(self, fields: Mapping[str, str], server: str = "") -> httpx.Response:
        """POST the options form; the answer is where the Hub sends the browser then."""
        return self._browser.post(f"{self._spawn_path(server)}?_xsrf={self._xsrf}", data=dict(fields))

    def _spawn_path(self, server: str) -> str:
        return f"/hub/spawn/{self.name}/{server}".rstrip("/")

    @property
    def _xsrf(self) -> str:
        cookies = [one for one in self._browser.cookies.jar if one.name == "_xsrf" and one.path == "/hub/"]
        return str(cookies[0].value)

    # REST ------------------------------------------------------------------------------------------

    def api(self, method: str, path: str, body: object = None, *, raw: bytes | None = None) -> httpx.Response:
        """Call the Hub's REST API with the browser's cookies; `raw` goes out as it is."""
        content = raw if raw is not None or body is None else json.dumps(body).encode()
        headers = {"X-XSRFToken": self._xsrf, "Referer": f"{self._url}/hub/home"}
        return self._browser.request(method, f"/hub/api{path}", content=content, headers=headers)

    def _server_path(self, server: str) -> str:
        return f"/users/{self.name}/servers/{server}" if server else f"/users/{self.name}/server"

    def ask_start(
        self, options: object = None, server: str = "", *, raw: bytes | None = None
    ) -> httpx.Response:
        """POST a start over REST; no options mean no body, which is `as last time`."""
        body = None if options is None else {"user_options": options, "display_name": server}
        return self.api("POST", self._server_path(server), body, raw=raw)

    def ask_stop(self, server: str = "") -> httpx.Response:
        """DELETE a server, pending or running."""
        return self.api("DELETE", self._server_path(server))

    def model(self) -> dict[str, Any]:
        """Return what the Hub says of her."""
        answer = self.api("GET", f"/users/{self.name}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def server(self, server: str = "") -> dict[str, Any]:
        """Return what the Hub says of one of her servers; empty when it is neither running nor pending."""
        found = self.model()["servers"].get(server) or {}
        return found if found.get("ready") or found.get("pending") else {}

    # waiting ---------------------------------------------------------------------------------------

    def start(self, options: object = None, server: str = "") -> None:
        """Start a server over REST and wait until it is ready."""
        answer = self.ask_start({} if options is None else options, server)
        assert answer.status_code in (201, 202), answer.text
        self.wait_ready(server)

    def wait_ready(self, server: str = "") -> None:
        """Wait until a server is ready; fail with the Hub's words when it fails."""
        found = wait_for(lambda: self._settled(server), f"{self.name}'s server is up", seconds=READY_SECONDS)
        assert found.get("ready"), f"the server did not start: {self.failure(server)}"

    def _settled(self, server: str) -> dict[str, Any] | None:
        found = self.server(server)
        return {"ready": False} if not found else None if found.get("pending") else found

    def wait_gone(self, server: str = "") -> None:
        """Wait until a server is neither running nor pending."""
        wait_for(lambda: not self.server(server), f"{self.name}'s server is gone")

    def stop(self, server: str = "") -> None:
        """Stop a server and wait until the Hub says it is gone."""
        answer = self.ask_stop(server)
        assert answer.status_code in (202, 204), answer.text
        self.wait_gone(server)

    def watch(self, server: str = "") -> Iterator[dict[str, Any]]:
        """Yield the events of the pending page until it ends."""
        with self._browser.stream("GET", f"/hub/api{self._server_path(server)}/progress") as stream:
            for line in stream.iter_lines():
                if line.startswith("data: "):
                    yield json.loads(line.removeprefix("data: "))

    def start_watched(self, options: object, server: str = "") -> list[str]:
        """Start a server and return all that the pending page said until it was ready."""
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(self.ask_start, options, server)
            wait_for(lambda: self.server(server) or answer.done(), "the start is pending")
            events = list(self.watch(server))
            assert answer.result().status_code in (201, 202), answer.result().text
        assert events[-1].get("ready"), events
        assert [event["progress"] for event in events] == sorted(event["progress"] for event in events)
        return [event["message"] for event in events]

    def wait_for_step(self, text: str, server: str = "") -> None:
        """Read the pending page until a step with `text` has begun."""
        seen = []
        for event in self.watch(server):
            seen.append(event["message"])
            if text in event["message"]:
                return
        raise AssertionError(f"the pending page never said {text!r}: {seen}")

    def failure(self, server: str = "") -> str:
        """Return what the pending page says of a start that failed."""
        # While the Hub clears up behind a failed start, the page has nothing to tell.
        events = wait_for(lambda: list(self.watch(server)), f"{self.name}'s server has failed")
        assert events[-1].get("failed"), f"it did not fail: {events}"
        return str(events[-1]["message"])

    def read_refusal(self, answer: httpx.Response, server: str = "") -> str:
        """Return the sentence with which a start was refused: in the answer to it, or on the pending page."""
        if answer.status_code in (201, 202):
            return self.failure(server)
        assert answer.status_code >= 400, answer.text
        return str(answer.json()["message"])

    # code ------------------------------------------------------------------------------------------

    def token(self) -> str:
        """Return an API token of hers, made once."""
        if not self._token:
            answer = self.api("POST", f"/users/{self.name}/tokens", {"note": "tests"})
            assert answer.status_code == 201, answer.text
            self._token = answer.json()["token"]
        return self._token

    def run(self, code: str, server: str = "") -> str:
        """Run code in a new kernel of her server, through the Hub's proxy, and return what it printed."""
        base = f"/user/{self.name}/{server}".rstrip("/")
        headers = {"Authorization": f"token {self.token()}"}
        answer = self._browser.post(f"{base}/api/kernels", json={"name": "python3"}, headers=headers)
        assert answer.status_code == 201, answer.text
        kernel = answer.json()["id"]
        try:
            return self._execute(f"{base}/api/kernels/{kernel}/channels", headers, code)
        finally:
            self._browser.delete(f"{base}/api/kernels/{kernel}", headers=headers)

    def _execute(self, path: str, headers: Mapping[str, str], code: str) -> str:
        url = self._url.replace("http://", "ws://") + path
        message_id = uuid.uuid4().hex
        content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False}
        header = {
            "msg_id": message_id,
            "msg_type": "execute_request",
            "username": self.name,
            "session": uuid.uuid4().hex,
            "version": "5.3",
        }
        request = {
            "header": header,
            "parent_header": {},
            "metadata": {},
            "content": content,
            "channel": "shell",
        }
        printed = []
        with connect(url, additional_headers=headers, max_size=None, proxy=None) as socket:
            socket.send(json.dumps(request))
            while True:
                message = json.loads(socket.recv(timeout=CODE_SECONDS))
                if message["parent_header"].get("msg_id") != message_id:
                    continue
                kind, said = message["header"]["msg_type"], message["content"]
                if kind == "stream":
                    printed.append(said["text"])
                elif kind == "error":
                    raise AssertionError("\n".join([*printed, *said["traceback"]]))
                elif kind == "status" and said["execution_state"] == "idle":
                    return "".join(printed)


def read_text(page: str) -> str:
    """Return the text of a page as one reads it: without tags and entities, white space as one blank."""
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", body)))
