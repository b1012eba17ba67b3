"""Refusal: what the keeper of the count has refused, as the error that tells the caller so."""

from gateway.admission.standing import Standings
from gateway.errors import Code, GatewayError
from gateway.limits import Budget, Verdict, Window

_WHO = {
    "ip": "one IP address (a backend's network can be freed of this)",
    "session": "one session",
    "user": "one user",
    "client": "one client",
    "tenant": "one tenant",
    "global": "all together",
}
"""How a scope is told to whoever is refused by it."""


def refusal(verdict: Verdict, standings: Standings) -> GatewayError:
    """`RATE_LIMITED`, `BUDGET_EXCEEDED` or `TOO_MANY_STREAMS`, with how the caller stands and when to ask again."""
    refused = verdict.refused
    if isinstance(refused, Window):
        code, what = Code.RATE_LIMITED, f"at most {refused.limit} requests in {refused.window_s:g} s"
    elif isinstance(refused, Budget):
        code, what = Code.BUDGET_EXCEEDED, f"at most {refused.limit} tokens a day"
    else:
        code, what = Code.TOO_MANY_STREAMS, f"at most {refused.limit if refused else 0} streams at once"
    message = f"{code.meaning.rstrip('.')}: {what} for {_WHO[refused.scope if refused else 'client']}."
    headers = standings.headers(verdict.standing) if verdict.standing is not None else None
    return GatewayError(code, message, retry_after_s=verdict.retry_after_s, headers=headers)
