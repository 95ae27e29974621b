"""The JSON Schema of a table, tried with python3-jsonschema against files that the reader takes
and files that it refuses."""

import json
import os
import subprocess

import jsonschema
import pytest
import yaml

TOOL = os.environ["CONF_TOOL"]

MINIMAL = "hostname: mx.example.com\nlisteners: [{bind: '0.0.0.0:25'}]\n"

# Both take these.
GOOD = [
    MINIMAL,
    "hostname: ${NAME:-mx.example.com}\nlisteners:\n- bind: ['${ADDR:-[::]}:25', '[::1]:465']\n",
    MINIMAL + "greeting: 25\n",
    MINIMAL + "greeting: no\n",
    MINIMAL + "quiet: no\n",
    MINIMAL + "quiet: 'off'\n",
    MINIMAL + "workers: 3\n",
    MINIMAL + "workers: auto\n",
    MINIMAL + "domains: example.com\n",
    MINIMAL + "domains: []\n",
    MINIMAL + "domains: [.example.com, bücher.example]\n",
    MINIMAL + "modes: off\n",
    MINIMAL + "modes: ['off', starttls]\n",
    MINIMAL + "home: 2001:db8::/32\n",
    MINIMAL + "home: 192.0.2.1\n",
    MINIMAL + "plan: limits\n",
    MINIMAL + "plan: [limits, {acl: [10.0.0.0/8]}]\n",
    MINIMAL + "limits:\n",
    MINIMAL + "limits: {message_size: 2048, recipients: '7', deadline: 90s, pause: 0}\n",
    MINIMAL + "limits: {message_size: 25MB, recipients: 7, deadline: 1500ms, pause: '0'}\n",
    MINIMAL + "limits: {recipients: '${N:-7}', message_size: '${N:-7}MB', pause: '${N:-7}s'}\n",
    MINIMAL + "routes: []\n",
    MINIMAL + "routes: mta\n",
    MINIMAL + "routes: [a, {backend: b, weight: 3}]\n",
    MINIMAL + "routes: [{backend: a}, {backend: b, weight: 3}]\n",
]

# Both refuse these. What only the reader can know (ranges with a unit, host bits, what `accepts`
# says) is not among them.
BAD = [
    "{}\n",
    "[]\n",
    "hostname: a.example\n",
    "hostname: a.example\nlisteners: []\n",
    "hostname: a.example\nlisteners: [{name: x}]\n",
    "hostname: a.example\nlisteners: {bind: '0.0.0.0:25'}\n",
    "hostname: a.example\nlisteners: [{bind: []}]\n",
    "hostname: a.example\nlisteners: [{bind: 0.0.0.0}]\n",
    "hostname: a.example\nlisteners: [{bind: 'localhost:25'}]\n",
    MINIMAL + "unknown: 1\n",
    MINIMAL + "quiet: maybe\n",
    MINIMAL + "quiet:\n",
    MINIMAL + "workers: some\n",
    MINIMAL + "domains: {a: b}\n",
    MINIMAL + "domains: ['a b']\n",
    MINIMAL + "modes: [always]\n",
    MINIMAL + "home: here\n",
    MINIMAL + "limits: 3\n",
    MINIMAL + "limits: {unknown: 1}\n",
    MINIMAL + "limits: {recipients: 0}\n",
    MINIMAL + "limits: {recipients: 100001}\n",
    MINIMAL + "limits: {recipients: many}\n",
    MINIMAL + "limits: {recipients: -1}\n",
    MINIMAL + "limits: {deadline: 30}\n",
    MINIMAL + "limits: {deadline: 1.5s}\n",
    MINIMAL + "limits: {deadline: 30 s}\n",
    MINIMAL + "limits: {message_size: 25mb}\n",
    MINIMAL + "routes: [{weight: 3}]\n",
    MINIMAL + "routes: [[a]]\n",
    MINIMAL + "routes: {backend: a}\n",
    MINIMAL + "routes: [{backend: a, weight: 0}]\n",
]


def tool(*args):
    done = subprocess.run([TOOL, *args], capture_output=True, text=True, timeout=30, check=False)
    assert done.stderr == ""
    return done


def document(kind):
    done = tool(kind)
    assert done.returncode == 0
    return done.stdout


@pytest.fixture(scope="module", name="validator")
def fixture_validator():
    schema = json.loads(document("schema"))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("text", GOOD)
def test_good(validator, tmp_path, text):
    path = tmp_path / "conf.yaml"
    path.write_text(text, encoding="utf-8")
    assert tool("check", str(path)).stdout == ""
    assert [e.message for e in validator.iter_errors(yaml.safe_load(text))] == []


@pytest.mark.parametrize("text", BAD)
def test_bad(validator, tmp_path, text):
    path = tmp_path / "conf.yaml"
    path.write_text(text, encoding="utf-8")
    done = tool("check", str(path))
    assert done.returncode == 1
    assert done.stdout.startswith(str(path) + ":")
    assert not validator.is_valid(yaml.safe_load(text))


def test_sample_is_valid(validator):
    validator.validate(yaml.safe_load(document("sample")))


@pytest.mark.parametrize("text", GOOD)
def test_effective_is_valid(validator, tmp_path, text):
    path = tmp_path / "conf.yaml"
    path.write_text(text, encoding="utf-8")
    validator.validate(yaml.safe_load(tool("effective", str(path)).stdout))


def walk(schema):
    yield schema
    for inner in schema.get("properties", {}).values():
        yield from walk(inner)
    if "items" in schema:
        yield from walk(schema["items"])


def test_every_key_is_described_and_defaults_fit(validator):
    keys = 0
    for mapping in walk(validator.schema):
        if "properties" not in mapping:
            continue
        assert mapping["additionalProperties"] is False
        for key, inner in mapping["properties"].items():
            keys += 1
            assert inner["description"], key
            if "default" in inner:
                validator.evolve(schema={"$defs": validator.schema["$defs"], **inner}).validate(
                    inner["default"])
    assert keys > 20
