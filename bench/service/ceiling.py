"""What the load generator itself can do: against a server that answers at once."""

import sys
from collections.abc import Callable

from app.embedded.servers import free_port
from bench.load.__main__ import Options
from bench.processes import running
from bench.servers import Servers
from bench.service.plan import Plan
from bench.service.stacks import Work
from bench.service.trial import Load, send_load


async def measure_ceiling(servers: Servers, plan: Plan, tell: Callable[[str], None]) -> dict[int, Load]:
    """Requests a second by the number of clients."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/tasks"
    command = (sys.executable, "-m", "bench.load.trivial")
    found = {}
    async with running("trivial", command, servers.directory, {"PORT": str(port)}) as program:
        await program.answers_at(url)
        for clients in plan.clients:
            found[clients] = await send_load(Options(url, Work.NOTHING.value, clients, plan.accept_s))
            tell(f"load generator alone, {clients} clients: {found[clients].rate:,.0f}/s")
    return found
