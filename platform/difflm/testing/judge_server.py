"""A judge's endpoint for tests: a server in this process that speaks the chat-completions protocol, faults included."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PATH = "/v1/chat/completions"
INPUT_TOKENS, OUTPUT_TOKENS = 100, 20
"""What every reply says it used, unless told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Says:
    """A reply of the model. `usage` False leaves its tokens out."""

    content: str | None
    refusal: str | None = None
    finish_reason: str = "stop"
    usage: bool = True
    input_tokens: int = INPUT_TOKENS
    output_tokens: int = OUTPUT_TOKENS


@dataclass(frozen=True, slots=True, kw_only=True)
class Fails:
    """A reply with a status of its own."""

    status: int
    message: str = "made to fail"
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sends:
    """A body as it is, with status 200, whatever it is."""

    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


class Drops:
    """The connection is closed without a word."""


class Hangs:
    """Nothing comes until the server ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pours:
    """A body that never ends: a chunk after every pause, until nobody listens or the server ends."""

    chunk: bytes = b" "
    pause_s: float = 0.01


Reaction = Says | Fails | Sends | Drops | Hangs | Pours
Script = Callable[[dict[str, Any], int], Reaction]
"""What to do with the body of a request, and its number from 0."""


@dataclass(slots=True)
class JudgeServer:
    """The address of a running server and the requests that it has seen, in the order of their arrival."""

    base_url: str
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)


def says_json(value: Mapping[str, Any]) -> Says:
    """Return a reply with this object as JSON."""
    return Says(content=json.dumps(value))


def in_turn(*reactions: Reaction) -> Script:
    """Return a script that gives one reaction after the other, repeating the last one."""
    return lambda body, number: reactions[min(number, len(reactions) - 1)]


class Server(ThreadingHTTPServer):
    """Serves each request in a thread."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report what failed, except clients that went away: their tests end before the reply is written."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def judge_server(script: Script, *, key: str | None = None) -> Iterator[JudgeServer]:
    """Run a server inside the block; with a `key` it refuses requests that carry another."""
    ended, lock = threading.Event(), threading.Lock()
    server = Server(("127.0.0.1", 0), BaseHTTPRequestHandler)
    state = JudgeServer(base_url=f"http://127.0.0.1:{server.server_address[1]}/v1")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            given = self.headers.get("Authorization", "").removeprefix("Bearer ")
            with lock:
                number = len(state.requests)
                state.requests.append(body)
                state.keys.append(given)
            if self.path != PATH:
                self._fail(Fails(status=404, message=f"no {self.path} here"))
            elif key is not None and given != key:
                self._fail(Fails(status=401, message="wrong key", code="invalid_api_key"))
            else:
                self._react(script(body, number))

        def _react(self, reaction: Reaction) -> None:
            if isinstance(reaction, Says):
                self._send(200, json.dumps(_completion(reaction)).encode(), "application/json", {})
            elif isinstance(reaction, Fails):
                self._fail(reaction)
            elif isinstance(reaction, Sends):
                self._send(200, reaction.body, reaction.content_type, reaction.headers)
            elif isinstance(reaction, Pours):
                self._pour(reaction)
            else:
                if isinstance(reaction, Hangs):
                    ended.wait()
                self.close_connection = True

        def _pour(self, reaction: Pours) -> None:
            self.close_connection = True
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            with suppress(ConnectionError):
                while not ended.wait(reaction.pause_s):
                    self.wfile.write(reaction.chunk)

        def _fail(self, reaction: Fails) -> None:
            error = {"message": reaction.message, "code": reaction.code, "type": "error", "param": None}
            body = json.dumps({"error": error}).encode()
            self._send(reaction.status, body, "application/json", reaction.headers)

        def _send(self, status: int, body: bytes, content_type: str, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": content_type, "Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing: tests read the requests instead."""

    server.RequestHandlerClass = Handler
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _completion(reaction: Says) -> dict[str, Any]:
    message = {"role": "assistant", "content": reaction.content, "refusal": reaction.refusal}
    read, written = reaction.input_tokens, reaction.output_tokens
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    return {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "created": 0,
        "model": "double",
        "choices": [{"index": 0, "message": message, "finish_reason": reaction.finish_reason, "logprobs": None}],
        **({"usage": usage} if reaction.usage else {}),
    }
