"""Promises in Valkey, which all gateways share; where it is away, those of this process."""

from collections.abc import Callable
from dataclasses import dataclass, field
from string import Template
from typing import Any, Final

from backbone.valkey import Valkey, ValkeyAway
from gateway.admission.promises import (
    BOOKED,
    BOOKED_ALONE,
    EARLY_S,
    GRACE_S,
    MAX_PLACES,
    MAX_WAIT_S,
    MIN_SHARE,
    PER_PHASE,
    PHASES_MAX,
    WEIGHT,
    MemoryPromises,
)

_PREFIX: Final = "{headrace:promises}"
"""The braces keep all keys in one slot of a cluster."""

# Times are microseconds by the clock of Valkey. Keys behind the prefix:
#   all          <caller>|<due> by due: every place that is promised
#   of:<caller>  the dues of one caller
#   line:<tenant> next place by phase; lines: <tenant> by the end of its line
#   share        share of places that are taken up
_COMMON: Final = """
local P = KEYS[1]
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local function us(n) return string.format('%.0f', n) end
local share = tonumber(redis.call('GET', P .. ':share') or '1')
local lapsed = redis.call('ZRANGEBYSCORE', P .. ':all', '-inf', us(now - $GRACE_US), 'LIMIT', 0, 1000)
for _, place in ipairs(lapsed) do
    local who, due = string.match(place, '^(.*)|(%d+)$$')
    redis.call('ZREM', P .. ':all', place)
    redis.call('ZREM', P .. ':of:' .. who, due)
    share = share - $WEIGHT * share
end
local function keep_share() redis.call('SET', P .. ':share', tostring(share), 'EX', 600) end
if #lapsed > 0 then keep_share() end
"""

_REDEEM: Final = """
local who, early = ARGV[1], ARGV[2] == '1'
local of = P .. ':of:' .. who
local first = redis.call('ZRANGE', of, 0, 0)[1]
if not first then return {#lapsed, -1} end
local due = tonumber(first)
if due > now + $EARLY_US and not early then return {#lapsed, due - now} end
redis.call('ZREM', of, first)
redis.call('ZREM', P .. ':all', who .. '|' .. first)
share = share + $WEIGHT * (1 - share)
keep_share()
return {#lapsed, 0}
"""

_BOOK: Final = """
local tenant, who, per_s, again = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1'
local wait_s = 1
local line, lines, next_us = P .. ':line:' .. tenant, P .. ':lines', {}
if not again then
    redis.call('ZREMRANGEBYSCORE', lines, '-inf', us(now))
    local n_lines = redis.call('ZCARD', lines)
    if not redis.call('ZSCORE', lines, tenant) then n_lines = n_lines + 1 end
    local part = n_lines == 1 and $BOOKED_ALONE or 1 / n_lines
    local places_per_s = per_s * $BOOKED * part / math.max(share, $MIN_SHARE)
    local old = redis.call('LRANGE', line, 0, -1)
    local n = math.max(1, math.min($PHASES_MAX, math.floor(places_per_s / $PER_PHASE)))
    for phase = 0, n - 1 do
        next_us[phase + 1] = #old == 0 and 0 or tonumber(old[math.floor(phase * #old / n) + 1])
    end
    local phase = math.floor((now % 1000000) * n / 1000000) + 1
    local due = math.max(next_us[phase], now + $EARLY_US)
    next_us[phase] = due + n * 1000000 / places_per_s
    wait_s = math.ceil((due - now) / 1000000)
end
if wait_s > $MAX_WAIT_S or redis.call('ZCARD', P .. ':all') >= $MAX_PLACES then return {#lapsed, -1} end
if not again then
    local ends = 0
    redis.call('DEL', line)
    for _, each in ipairs(next_us) do
        redis.call('RPUSH', line, us(each))
        ends = math.max(ends, each)
    end
    redis.call('EXPIRE', line, $KEEP_S)
    redis.call('ZADD', lines, us(ends), tenant)
    redis.call('EXPIRE', lines, $KEEP_S)
end
local due = us(now + wait_s * 1000000)
redis.call('ZADD', P .. ':of:' .. who, due, due)
redis.call('EXPIRE', P .. ':of:' .. who, $KEEP_S)
redis.call('ZADD', P .. ':all', due, who .. '|' .. due)
redis.call('EXPIRE', P .. ':all', $KEEP_S)
return {#lapsed, wait_s}
"""

_WAITING: Final = "return {#lapsed, redis.call('ZCARD', P .. ':all')}"


def _script(text: str) -> str:
    return Template(_COMMON + text).substitute(
        GRACE_US=int(GRACE_S * 1e6),
        EARLY_US=int(EARLY_S * 1e6),
        WEIGHT=WEIGHT,
        BOOKED=BOOKED,
        BOOKED_ALONE=BOOKED_ALONE,
        MIN_SHARE=MIN_SHARE,
        PHASES_MAX=PHASES_MAX,
        PER_PHASE=PER_PHASE,
        MAX_WAIT_S=int(MAX_WAIT_S),
        MAX_PLACES=MAX_PLACES,
        KEEP_S=int(MAX_WAIT_S + GRACE_S) + 60,
    )


REDEEM: Final = _script(_REDEEM)
BOOK: Final = _script(_BOOK)
WAITING: Final = _script(_WAITING)


@dataclass(kw_only=True)
class SharedPromises:
    """`Promises` of all gateways together.

    Attributes:
        valkey: where they are.
        alone: takes over while Valkey is away; promises that only Valkey knows are lost then.
        on_lapsed: called with the number of places that were lost because nobody came.
        prefix: of all keys.
    """

    valkey: Valkey
    alone: MemoryPromises
    on_lapsed: Callable[[int], None] = lambda n: None
    prefix: str = field(default=_PREFIX)

    async def redeem(self, tenant: str, who: str, *, early: bool) -> float | None:
        """See `Promises`."""
        try:
            left_us = await self._run(REDEEM, who, int(early))
        except ValkeyAway:
            return await self.alone.redeem(tenant, who, early=early)
        # It may have been promised a place while Valkey was away.
        return await self.alone.redeem(tenant, who, early=early) if left_us < 0 else left_us / 1e6

    async def book(self, tenant: str, who: str, *, per_s: float, again: bool) -> int | None:
        """See `Promises`."""
        try:
            wait_s = await self._run(BOOK, tenant, who, per_s, int(again))
        except ValkeyAway:
            return await self.alone.book(tenant, who, per_s=per_s, again=again)
        return None if wait_s < 0 else wait_s

    async def waiting(self) -> int:
        """See `Promises`."""
        n_alone = await self.alone.waiting()
        try:
            return n_alone + await self._run(WAITING)
        except ValkeyAway:
            return n_alone

    async def _run(self, script: str, *arguments: Any) -> int:
        n_lapsed, result = await self.valkey.run(script, [self.prefix], arguments)
        if n_lapsed:
            self.on_lapsed(n_lapsed)
        return int(result)
