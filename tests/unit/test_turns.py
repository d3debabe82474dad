"""Places for what all want at once."""

from __future__ import annotations

import asyncio

from reconciler.push.turns import Turns


def test_no_more_than_the_places_at_once_and_all_in_the_end() -> None:
    async def script() -> None:
        turns, inside, most, done = Turns(places=2, seconds=60), 0, 0, 0

        async def one() -> None:
            nonlocal inside, most, done
            async with turns.turn():
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1
            done += 1

        await asyncio.gather(*(one() for _ in range(20)))
        assert (most, done) == (2, 20)

    asyncio.run(script())


def test_who_is_stuck_loses_its_place_to_the_next_and_gives_it_back_once() -> None:
    async def script() -> None:
        turns, released = Turns(places=1, seconds=0.05), asyncio.Event()

        async def stuck() -> None:
            async with turns.turn():
                await released.wait()

        task = asyncio.create_task(stuck())
        await asyncio.sleep(0)
        async with asyncio.timeout(15), turns.turn():
            released.set()
            await task
            waiting = asyncio.create_task(turns.turn().__aenter__())
            await asyncio.sleep(0)
            assert not waiting.done()
            waiting.cancel()

    asyncio.run(script())
