"""Promise: the facts of a call are those of its instant, regardless of earlier look-ups."""

from pathlib import Path

from dialgate.config import loader
from dialgate.core import local_time
from dialgate.core.model import DAY, MINUTE, Call, CallerId, Known
from dialgate.crypto.keys import Keys
from dialgate.gate.facts import FileFacts, Gatherer
from tests.support import world
from tests.support.world import CALLER, CLEAR, NOW, write_folder

MIDNIGHT = NOW + 14 * 60 * MINUTE


async def test_the_day_and_the_places_of_a_call_are_those_of_its_instant(tmp_path: Path) -> None:
    """Both are cached for a day. A change of the clocks and Christmas are between these instants."""
    async with world.running(tmp_path) as running:
        gatherer, client = running.app.gate._gatherer, running.app.config.settings.clients[0]
        question = gatherer.read(Call(to=CLEAR, from_=CALLER, campaign="acme-fibre"), client)
        law = running.app.config.laws["IT"]
        shown = CallerId(number=CALLER, form="number")
        later = (MIDNIGHT + days * DAY for days in (1, 20, 31, 150))
        for at in (NOW, MIDNIGHT - 1, MIDNIGHT, *later, NOW - 200 * DAY, NOW):
            facts = gatherer.facts(question, shown, Known(), FileFacts((), ()), at)
            day = local_time.day_in(law.zone, at)
            places = (local_time.place("Europe/Rome", law.holidays, at),)
            assert (facts.at, facts.today, facts.places) == (at, day, places)
            ends = places[0].instant(places[0].local(at)[0] + 1, 0)
            assert gatherer.same_until(question, at) == ends


async def test_a_law_covers_the_numbers_of_its_regions(tmp_path: Path) -> None:
    write_folder(tmp_path)
    countries = tmp_path / "countries"
    text = (countries / "it.yaml").read_text("utf-8")
    french = text.replace("country: IT\nname", "regions: [FR, GP]\ncountry: FR\nname")
    (countries / "fr.yaml").write_text(french, "utf-8")
    config = loader.load(tmp_path / "dialgate.yaml")
    gatherer = Gatherer(config, Keys.open(tmp_path / "keys.json"))
    (client, *_) = config.settings.clients
    numbers = {"+33142685300": "FR", "+590590123456": "GP", "+596596301234": "MQ", CLEAR: "IT"}
    laws = {}
    for number, region in numbers.items():
        question = gatherer.read(Call(to=number, from_=CALLER, campaign="acme-fibre"), client)
        assert question.number.region == region
        laws[region] = question.country
    assert laws == {"FR": "FR", "GP": "FR", "MQ": "IT", "IT": "IT"}
