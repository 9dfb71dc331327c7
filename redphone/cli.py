"""The `redphone` command: what it can do, and where each part is written.

    running       up · serve · deploy · demo · doctor · docs        redphone/up.py, demo.py, doctor.py, documents.py
    setting up    network apply · token · keys …                    redphone/network.py, answers.py, keys.py
    your systems  webhook listen|ping · deliveries …                redphone/listen.py, deliveries.py
                  heartbeat list|now                              redphone/heartbeat.py
    an alert      alert raise|release|update|cancel|close|…         redphone/alerts.py, watch.py
    answering     acknowledge · position · board · on-call          redphone/answers.py, on_call.py, watch.py
                  add-contact · stop-pages · pages                redphone/answers.py, pages.py
    talking       ask · questions · answer-question                 redphone/talk.py
                  read-back · confirm-read-back
    being reached points list|add|change|remove|verify|confirm      redphone/points.py
    handing over  hand-over list|sign                             redphone/hand_over.py
    swapping      swap offer|list|accept|decline|withdraw           redphone/swaps.py
    holding       readiness                                         redphone/readiness.py
    on paper      call-tree                                         redphone/call_tree.py
    rotas         rota list|show|set|fairness                       redphone/rota.py
                  rota override|replace list|add|remove             redphone/rota.py

What serves is imported only by the commands that serve, so that the others start quickly.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from redphone import (
    alerts,
    answers,
    calendars,
    call_tree,
    deliveries,
    doctor,
    documents,
    hand_over,
    heartbeat,
    keys,
    line_test,
    listen,
    network,
    on_call,
    pages,
    points,
    readiness,
    rota,
    swaps,
    talk,
)
from redphone.commands import blocks
from redphone.output import Output

EXIT_CODES = (
    "Exit codes: 0 done · 1 refused · 2 wrong command line · 3 no answer · 4 not authorised · 5 not everybody "
    "acknowledged (alert watch --until-acknowledged) · 6 something is wrong (doctor, readiness) · 7 cannot start or go "
    "on (up, serve, deploy)"
)

app = typer.Typer(
    name="redphone",
    help="The emergency line between governments: an alert reaches every addressed partner and is acknowledged, or "
    "escalates.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class ServiceChoice(StrEnum):
    """The services that run by themselves."""

    ALERTING = "alerting"
    ROSTER = "roster"
    ESCALATION = "escalation"
    CONSOLE = "console"


HostOption = Annotated[
    str | None, typer.Option("--host", help="Address to listen on [REDPHONE_HOST, else 127.0.0.1].", show_default=False)
]
PortOption = Annotated[
    int | None,
    typer.Option(
        "--port", min=0, max=65535, help="Port; 0 takes a free one [REDPHONE_PORT, else 8000].", show_default=False
    ),
]


# --- running ----------------------------------------------------------------------------------------------------------


@app.command()
@blocks
def up(
    output: Output,
    *,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir", help="Where everything is kept [REDPHONE_DATA_DIR, else ./.redphone].", show_default=False
        ),
    ] = None,
    host: HostOption = None,
    port: PortOption = None,
    network_file: Annotated[
        Path | None,
        typer.Option(
            "--network", help="A network file to bring in on the first start.", metavar="FILE", show_default=False
        ),
    ] = None,
    development: Annotated[
        bool, typer.Option("--development", help="Webhooks may go to this machine, over http. Never in production.")
    ] = False,
) -> None:
    """Runs the whole system on this machine: PostgreSQL, NATS, the three services and the console, on one address.

    With REDPHONE_DATABASE_URL and REDPHONE_NATS_URL it uses those servers instead of its own.

    For example:

        redphone up --network network/rdn.toml
    """
    from redphone import up as running  # noqa: PLC0415 - see above

    options = running.UpOptions(data_dir=data_dir, host=host, port=port, network=network_file, development=development)
    running.run(running.up(options, output))


@app.command()
@blocks
def serve(
    output: Output,
    service: Annotated[ServiceChoice, typer.Argument(help="Which service.")],
    host: HostOption = None,
    port: PortOption = None,
) -> None:
    """Runs one service, as production does; any number of replicas. Run redphone deploy before.

    For example:

        REDPHONE_DATABASE_URL=postgresql://… REDPHONE_NATS_URL=nats://… redphone serve escalation --port 8003
    """
    from redphone import up as running  # noqa: PLC0415 - see above

    running.run(running.serve(service.value, host=host, port=port, output=output))


@app.command()
@blocks
def deploy(
    output: Output,
    services: Annotated[list[ServiceChoice] | None, typer.Argument(help="Which services; by default all.")] = None,
) -> None:
    """Brings databases (migrations), streams and consumers to this version, and ends. May be repeated.

    Needs the database's owner: REDPHONE_<SERVICE>_OWNER_DATABASE_URL. redphone up does this by itself.

    For example:

        redphone deploy && redphone serve alerting
    """
    from redphone import up as running  # noqa: PLC0415 - see above

    names: list[Literal["alerting", "roster", "escalation", "console"]] = [
        choice.value for choice in services or list(ServiceChoice)
    ]
    running.run(running.deploy_all(names, output))


class Crisis(StrEnum):
    """The crises that can be played."""

    AFGHANISTAN = "afghanistan"
    DERNA = "derna"
    GAZA = "gaza"
    SUDAN = "sudan"


@app.command()
@blocks
def demo(
    output: Output,
    *,
    crisis: Annotated[Crisis, typer.Option("--crisis", help="Which crisis to play.")] = Crisis.AFGHANISTAN,
    quick: Annotated[bool, typer.Option("--quick", help="With the shortest deadlines.")] = False,
    stay: Annotated[bool, typer.Option("--open", help="Keep it running afterwards, to look around.")] = False,
) -> None:
    """Plays a real crisis on a throw-away directory: ten partners that answer, answer late, fail, or stay silent.

    Exit code 0 only if every partner ended as it should.

    For example:

        redphone demo --crisis derna
    """
    from redphone import demo as playing  # noqa: PLC0415 - see above

    playing.run(playing.DemoOptions(crisis=crisis.value, stay=stay, quick=quick), output)


app.command("doctor")(doctor.doctor)
app.command("docs")(documents.docs)

# --- setting up, alerts, answering ------------------------------------------------------------------------------------

app.add_typer(network.app, name="network")
app.add_typer(listen.app, name="webhook")
app.add_typer(alerts.app, name="alert")
app.add_typer(points.app, name="points")
rota.app.add_typer(calendars.app)
app.add_typer(rota.app, name="rota")
app.add_typer(swaps.app, name="swap")
app.add_typer(hand_over.app, name="hand-over")
app.add_typer(deliveries.app, name="deliveries")
app.add_typer(heartbeat.app, name="heartbeat")
app.add_typer(keys.app, name="keys")
app.add_typer(line_test.app, name="line-test")
app.command("acknowledge")(answers.acknowledge)
app.command("position")(answers.position)
app.command("add-contact")(answers.add_contact)
app.command("stop-pages")(answers.stop_pages)
app.command("ask")(talk.ask)
app.command("questions")(talk.questions)
app.command("answer-question")(talk.answer_question)
app.command("read-back")(talk.read_back)
app.command("confirm-read-back")(talk.confirm_read_back)
app.command("board")(answers.board)
app.command("pages")(pages.pages)
app.command("on-call")(on_call.on_call)
app.command("call-tree")(call_tree.call_tree)
app.command("readiness")(readiness.readiness)
app.command("token")(answers.token)


def main() -> None:
    """The console script."""
    app()
