"""The route of what readers think of answers."""

import time

from fastapi import APIRouter

from backbone.kafka import PublishFailed
from gateway.auth import Authenticated
from gateway.documents import ServicesOf
from gateway.models import FeedbackRequest, FeedbackShown
from gateway.problems import Problem, unavailable
from gateway.queries import QueryId, no_question
from gateway.sending import acknowledged, send
from gateway.trace import Traceparent
from schemas.events import FeedbackGiven
from schemas.topics import FEEDBACK

router = APIRouter(prefix="/v1", tags=["questions"])


@router.post("/queries/{id}/feedback", status_code=202)
async def give_feedback(
    id: QueryId, body: FeedbackRequest, caller: Authenticated, services: ServicesOf, trace: Traceparent
) -> FeedbackShown:
    """Say what you think of an answer, once it has ended. What is said later replaces what was said before."""
    row = await services.questions.find(caller.tenant, id)
    if row is None:
        raise no_question(id)
    if row.state != "finished":
        detail = f"the question {id!r} is {row.state}; feedback is taken once it is finished"
        raise Problem(409, "not_finished", detail, id=id)
    feedback = FeedbackGiven(
        query=id,
        tenant=caller.tenant,
        rating=body.rating,
        given_ms=time.time_ns() // 1_000_000,
        comment=body.comment,
        correction=body.correction,
        user=body.user_id,
    )
    try:
        await acknowledged(await send(services, FEEDBACK, feedback, key=id.encode(), traceparent=trace))
    except PublishFailed as error:
        raise unavailable("Kafka", error) from error
    await services.questions.set_feedback(caller.tenant, id, feedback)
    return FeedbackShown.of(feedback)
