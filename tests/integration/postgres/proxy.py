#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""proxy.py PORT TARGET_PORT CONTROL_PORT: between a client and PostgreSQL, on 127.0.0.1.

One line to CONTROL_PORT says what to do from then on; the answer is "ok".

  pass
  lose             take the next thing that the server says away, and break that connection
  hole             what comes on a connection is lost, on either side, and nobody is told
  drip             what the server says comes byte by byte, slowly
  flood            to the next thing that the client says: rows without end
  refuse CODE N    the next N connections are refused with this SQLSTATE; then pass
  fired            changes nothing: the answer is how often the last of these did something"""

import asyncio
import struct
import sys

LISTEN, TARGET, CONTROL = (int(a) for a in sys.argv[1:4])
state = {"mode": "pass", "code": "", "left": 0, "fired": 0}

ROWS = (b"T" + struct.pack("!IH", 4 + 2 + 2 + 18, 1) + b"x\0" + struct.pack("!IHIhih", 0, 0, 17, -1, -1, 1))
ROW = b"D" + struct.pack("!IHI", 4 + 2 + 4 + 65536, 1, 65536) + bytes(65536)


async def flood(writer):
    state["fired"] += 1
    # parsed, bound, described
    writer.write(b"1" + struct.pack("!I", 4) + b"2" + struct.pack("!I", 4) + ROWS)
    while True:
        writer.write(ROW)
        await writer.drain()


async def carry(reader, writer, other, to_client):
    try:
        while data := await reader.read(65536):
            mode = state["mode"]
            if mode == "hole":
                state["fired"] += 1
                while await reader.read(65536):
                    pass
                break
            if to_client and mode == "lose":
                state["mode"] = "pass"
                state["fired"] += 1
                break
            if not to_client and mode == "flood":
                state["mode"] = "pass"
                await flood(other)
            if to_client and mode == "drip":
                for byte in data:
                    state["fired"] += 1
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(0.02)
                continue
            writer.write(data)
            await writer.drain()
    except (ConnectionError, OSError):
        pass
    for w in (writer, other):
        if not w.transport.is_closing():
            w.transport.abort()


async def refuse(reader, writer):
    state["left"] -= 1
    state["fired"] += 1
    size = struct.unpack("!I", await reader.readexactly(4))[0]
    await reader.readexactly(size - 4)
    fields = b"SFATAL\0VFATAL\0C" + state["code"].encode() + b"\0Mnot now\0\0"
    writer.write(b"E" + struct.pack("!I", 4 + len(fields)) + fields)
    await writer.drain()
    writer.close()


async def client(reader, writer):
    if state["mode"] == "refuse" and state["left"] > 0:
        try:
            await refuse(reader, writer)
        except (ConnectionError, OSError, asyncio.IncompleteReadError):
            pass
        return
    try:
        server = await asyncio.open_connection("127.0.0.1", TARGET)
    except OSError:
        writer.transport.abort()
        return
    await asyncio.gather(carry(reader, server[1], writer, False),
                         carry(server[0], writer, server[1], True))


async def control(reader, writer):
    words = (await reader.readline()).decode().split()
    if words[0] == "fired":
        writer.write(b"%d\n" % state["fired"])
    else:
        state.update(mode=words[0], fired=0, left=0)
        if words[0] == "refuse":
            state.update(code=words[1], left=int(words[2]))
        writer.write(b"ok\n")
    await writer.drain()
    writer.close()


async def main():
    await asyncio.start_server(client, "127.0.0.1", LISTEN)
    await asyncio.start_server(control, "127.0.0.1", CONTROL)
    await asyncio.Event().wait()


asyncio.run(main())
