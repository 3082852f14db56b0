"""The least that an aiohttp server can do with a POST: what the load generator reaches against it is its ceiling."""

import os

import uvloop
from aiohttp import web


async def accept(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(body=b'{"id":"000000000000000000000000"}', status=201, content_type="application/json")


def main() -> None:
    app = web.Application()
    app.router.add_post("/tasks", accept)
    loop = uvloop.new_event_loop()
    web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), access_log=None, print=None, loop=loop)


if __name__ == "__main__":
    main()
