"""One number for one partner: how far the coming 14 days are proven, from 0 to 100. Pure.

The rule, of 100 points:

    50  covered minutes of the rotas that levels name; without such a rota, levels that always reach somebody
    25  people and offices on duty who can be reached in two ways, each verified, confirmed and working
    10  endpoints without a finding; a partner without endpoints has these points
    10  covered minutes that have a deputy
     5  order: a double duty takes 2, a level that reaches nobody 2, a rota or calendar at its end 1

each in proportion, and rounded down, so that 100 means: nothing was found that counts. A hole weighs more than its
minutes: any hole takes 10 points more, one that begins within 24 hours 25.
"""

from __future__ import annotations

from services.roster.readiness.findings import FindingCode, Proof

FULL = 100
COVERAGE, PEOPLE, SYSTEMS, DEPUTIES = 50, 25, 10, 10
ORDER = {
    FindingCode.DOUBLE_DUTY: 2,
    FindingCode.NOBODY_REACHABLE: 2,
    FindingCode.ROTA_ENDING: 1,
    FindingCode.CALENDAR_ENDING: 1,
}
ORDER_MAX = 5
HOLE, HOLE_SOON = 10, 25


def score_of(proof: Proof) -> int:
    """The partner's score by the rule above."""
    measures, codes = proof.measures, {finding.code for finding in proof.findings}
    if measures.minutes:
        coverage = measures.minutes_covered / measures.minutes
    else:
        coverage = _share(measures.levels_sound, measures.levels, nothing=0.0)
    score = COVERAGE * coverage
    score += PEOPLE * _share(measures.people_sound, measures.people, nothing=0.0)
    score += SYSTEMS * _share(measures.endpoints_sound, measures.endpoints, nothing=1.0)
    score += DEPUTIES * _share(measures.minutes_with_deputy, measures.minutes_covered, nothing=0.0)
    score += ORDER_MAX - min(ORDER_MAX, sum(points for code, points in ORDER.items() if code in codes))
    if proof.alarms:
        score -= HOLE_SOON
    elif FindingCode.UNCOVERED in codes:
        score -= HOLE
    return max(0, min(FULL, int(score)))


def _share(part: int, whole: int, *, nothing: float) -> float:
    return part / whole if whole else nothing
