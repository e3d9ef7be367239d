#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""proxy.py PORT TARGET_PORT CONTROL_PORT: between a client and PostgreSQL, on 127.0.0.1.

One line to CONTROL_PORT says what to do: "pass"; "lose": take the next thing that the server says
away, and break that connection; "hole": what comes on a connection is lost from then on, on
either side, and nobody is told. The answer is "ok"."""

import asyncio
import sys

LISTEN, TARGET, CONTROL = (int(a) for a in sys.argv[1:4])
state = {"mode": "pass"}


async def carry(reader, writer, other, to_client):
    try:
        while data := await reader.read(65536):
            if state["mode"] == "hole":
                while await reader.read(65536):
                    pass
                break
            if to_client and state["mode"] == "lose":
                state["mode"] = "pass"
                break
            writer.write(data)
            await writer.drain()
    except (ConnectionError, OSError):
        pass
    for w in (writer, other):
        if not w.transport.is_closing():
            w.transport.abort()


async def client(reader, writer):
    try:
        server = await asyncio.open_connection("127.0.0.1", TARGET)
    except OSError:
        writer.transport.abort()
        return
    await asyncio.gather(carry(reader, server[1], writer, False),
                         carry(server[0], writer, server[1], True))


async def control(reader, writer):
    state["mode"] = (await reader.readline()).decode().strip()
    writer.write(b"ok\n")
    await writer.drain()
    writer.close()


async def main():
    await asyncio.start_server(client, "127.0.0.1", LISTEN)
    await asyncio.start_server(control, "127.0.0.1", CONTROL)
    await asyncio.Event().wait()


asyncio.run(main())
