"""Refusal: what the keeper of the count has refused, as the error that tells the caller so."""

from gateway.admission.standing import Standings
from gateway.errors import Code, GatewayError
from gateway.limits import Budget, Verdict, Window


def refusal(verdict: Verdict, standings: Standings) -> GatewayError:
    """`RATE_LIMITED`, `BUDGET_EXCEEDED` or `TOO_MANY_STREAMS`, with how the caller stands and when to ask again."""
    code = Code.TOO_MANY_STREAMS
    if isinstance(verdict.refused, Window):
        code = Code.RATE_LIMITED
    elif isinstance(verdict.refused, Budget):
        code = Code.BUDGET_EXCEEDED
    headers = standings.headers(verdict.standing) if verdict.standing is not None else None
    return GatewayError(code, retry_after_s=verdict.retry_after_s, headers=headers)
