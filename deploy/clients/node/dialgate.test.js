/**
 * Tests of the client. Those of a gate need the variables DIALGATE_URL, DIALGATE_KEY and DIALGATE_NOW, and are run by
 * tests/deploy/test_node_client.py.
 */

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { test } from "node:test";

import { Denied, Dialgate, NotAllowed, NotRecorded, Unavailable } from "./dialgate.js";

const { DIALGATE_URL, DIALGATE_SHADOW_URL, DIALGATE_KEY, DIALGATE_NOW } = process.env;
const withGate = { skip: !DIALGATE_URL };
const NOW = Number(DIALGATE_NOW ?? Date.parse("2026-11-24T09:00:00Z"));
const CLEAR = "+390612345678";
const LISTED = "+390612345679";
const CALL = { to: CLEAR, from: "+390844123456", campaign: "acme-fibre" };
const ALLOW = {
  decision: "allow",
  decision_id: "1-1",
  to: CLEAR,
  from: CALL.from,
  valid_until: "2026-11-24T09:15:00.000Z",
};

const client = (url, options) => new Dialgate(url, DIALGATE_KEY, { clock: () => NOW, timeout: 5000, ...options });

// ---- a gate ------------------------------------------------------------------------------------------------------------------

test("an allow has the number to dial", withGate, async () => {
  const allow = await client(DIALGATE_URL).check({ ...CALL, to: "06 1234 5678" });
  assert.equal(allow.to, CLEAR);
  assert.equal(allow.from, CALL.from);
  assert.ok(allow.decision_id);
  assert.equal((await client(DIALGATE_URL).check({ ...CALL, from: "auto" })).from, CALL.from);
});

test("a denial has its reasons", withGate, async () => {
  await assert.rejects(client(DIALGATE_URL).check({ ...CALL, to: LISTED }), (error) => {
    assert.ok(error instanceof Denied && error instanceof NotAllowed);
    assert.equal(error.reason, "registry.listed");
    assert.equal(error.reasons[0].code, "registry.listed");
    assert.equal(error.reason_class, "number");
    assert.ok(error.decision_id);
    return true;
  });
});

test("the same call id counts once", withGate, async () => {
  const call = { ...CALL, call_id: "one" };
  const first = await client(DIALGATE_URL).check(call);
  assert.equal((await client(DIALGATE_URL).check(call)).decision_id, first.decision_id);
  assert.notEqual((await client(DIALGATE_URL).check(CALL)).decision_id, first.decision_id);
});

test("test numbers have their fixed answers", withGate, async () => {
  const check = (to) => client(DIALGATE_URL).check({ ...CALL, to });
  assert.equal((await check("+99900000000")).to, "+99900000000");
  await assert.rejects(check("+99900000029"), { name: "Denied", reason: "hours.outside", reason_class: "call" });
  await assert.rejects(check("+99900000034"), { name: "Unavailable", reason: "gate.unavailable" });
  await assert.rejects(check("+99900000035"), { name: "Unavailable", reason: "rate.exceeded" });
});

test("shadow mode allows, and says what the gate would decide", { skip: !DIALGATE_SHADOW_URL }, async () => {
  const listed = await client(DIALGATE_SHADOW_URL).check({ ...CALL, to: LISTED });
  assert.deepEqual([listed.to, listed.would, listed.reasons[0].code], [LISTED, "deny", "registry.listed"]);
  const unread = await client(DIALGATE_SHADOW_URL).check({ ...CALL, to: "0000000" });
  assert.deepEqual([unread.to, unread.would], ["0000000", "deny"]);
});

test("a list of numbers, a wrong key and a wrong campaign are no allow", withGate, async () => {
  await assert.rejects(client(DIALGATE_URL).check({ ...CALL, to: [CLEAR, CLEAR] }), { name: "Unavailable", reason: "request.invalid" });
  await assert.rejects(new Dialgate(DIALGATE_URL, "wrong", { timeout: 5000 }).check(CALL), { name: "Unavailable", reason: "auth.unknown", message: /HTTP 401/ });
  await assert.rejects(client(DIALGATE_URL).check({ ...CALL, campaign: "no-such" }), Denied);
});

test("a stop during the call applies to the next check", withGate, async () => {
  const dialgate = client(DIALGATE_URL);
  await assert.rejects(dialgate.outcome("no-such", "answered"), { name: "NotRecorded", message: /decision\.unknown/ });
  const { decision_id } = await dialgate.check(CALL);
  await dialgate.outcome(decision_id, "answered");
  await dialgate.revoke(CLEAR, { channel: "call", actor: "agent-17" });
  await assert.rejects(dialgate.check(CALL), { name: "Denied", reason: "revocation.revoked" });
});

// ---- a fake gate -------------------------------------------------------------------------------------------------------------

/** Run `use` with the URL of a server that calls `serve(socket, body)` for each request. */
async function serving(serve, use) {
  const sockets = new Set();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    let received = "";
    socket.on("data", (bytes) => {
      received += bytes;
      if (!received.endsWith("}")) return;
      const body = JSON.parse(received.slice(received.indexOf("\r\n\r\n")));
      received = "";
      serve(socket, body);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    return await use(`http://127.0.0.1:${server.address().port}`);
  } finally {
    for (const socket of sockets) socket.destroy();
    server.close();
  }
}

const raw = (body, { status = "200 OK", length = Buffer.byteLength(body), headers = "" } = {}) =>
  `HTTP/1.1 ${status}\r\nContent-Type: application/json\r\n${length === null ? "" : `Content-Length: ${length}\r\n`}${headers}\r\n${body}`;
const rawAllow = (changes, options) => raw(JSON.stringify({ ...ALLOW, ...changes }), options);
const checkAgainst = (reply, call = CALL) =>
  serving((socket) => socket.end(reply), (url) => client(url).check(call));

test("the unchanged answer is an allow", async () => {
  assert.deepEqual(await checkAgainst(rawAllow({})), {
    decision_id: "1-1",
    to: CLEAR,
    from: CALL.from,
    valid_until: ALLOW.valid_until,
    reasons: [],
    reason_class: "",
    would: "",
  });
});

const WHOLE = rawAllow({});
const DENIAL = { decision: "deny", decision_id: "1-1", reasons: [{ code: "hours.outside", text: "" }] };
const DOUBTFUL = {
  "500 with an allow": rawAllow({}, { status: "500 Internal Server Error" }),
  "500 with a denial": raw(JSON.stringify(DENIAL), { status: "500 Internal Server Error" }),
  "503 without a body": raw("", { status: "503 Service Unavailable" }),
  "201 with an allow": rawAllow({}, { status: "201 Created" }),
  "a redirection": rawAllow({}, { status: "302 Found", headers: "Location: /elsewhere\r\n" }),
  "a redirection that repeats the request": rawAllow({}, { status: "307 Temporary Redirect", headers: "Location: /elsewhere\r\n" }),
  "no decision id": rawAllow({ decision_id: undefined }),
  "an empty decision id": rawAllow({ decision_id: "" }),
  "no decision": rawAllow({ decision: undefined }),
  "another decision": rawAllow({ decision: "yes" }),
  "a decision in capitals": rawAllow({ decision: "ALLOW" }),
  "a decision that is true": rawAllow({ decision: true }),
  "a decision in a list": rawAllow({ decision: ["allow"] }),
  "a denial without reasons": raw(JSON.stringify({ ...DENIAL, reasons: [] })),
  "another number": rawAllow({ to: LISTED }),
  "a number that ends alike": rawAllow({ to: "5678" }),
  "a number without plus": rawAllow({ to: "390612345678" }),
  "numbers in a list": rawAllow({ to: [CLEAR] }),
  "no number": rawAllow({ to: undefined }),
  "another number, as if it was not read": rawAllow({ to: LISTED, would: "deny" }),
  "no caller ID": rawAllow({ from: undefined }),
  "an empty caller ID": rawAllow({ from: "" }),
  "no end": rawAllow({ valid_until: undefined }),
  "an end in the past": rawAllow({ valid_until: "2026-11-24T08:59:59.000Z" }),
  "an end now": rawAllow({ valid_until: "2026-11-24T09:00:00.000Z" }),
  "an end in words": rawAllow({ valid_until: "soon 2030" }),
  "an end without a time zone": rawAllow({ valid_until: "2026-11-24T09:15:00" }),
  "an end as a number": rawAllow({ valid_until: 4e12 }),
  "half an answer": WHOLE.slice(0, -1),
  "half a JSON": raw(JSON.stringify(ALLOW).slice(0, -1)),
  "a word": raw("allow"),
  "a JSON word": raw('"allow"'),
  "null": raw("null"),
  "a list": raw(JSON.stringify([ALLOW])),
  "deep nonsense": raw("[".repeat(60_000)),
  "a page": raw("<html>allow</html>"),
  "an empty body": raw(""),
  "no length": rawAllow({}, { length: null }),
  "too long": raw(" ".repeat(70_000) + JSON.stringify(ALLOW)),
  "another protocol": "SSH-2.0-OpenSSH_9.2\r\n",
  "nothing": "",
};
for (const [name, reply] of Object.entries(DOUBTFUL)) {
  test(`no allow: ${name}`, async () => {
    await assert.rejects(checkAgainst(reply), Unavailable);
  });
}

test("a denial from a fake gate is a denial", async () => {
  await assert.rejects(checkAgainst(raw(JSON.stringify(DENIAL))), { name: "Denied", reason: "hours.outside", decision_id: "1-1" });
});

test("no wrong type of any field is an allow", async () => {
  for (const field of Object.keys(ALLOW)) {
    for (const value of [null, true, 1, [], [ALLOW[field]], {}, ""]) {
      await assert.rejects(checkAgainst(rawAllow({ [field]: value })), Unavailable, `${field}: ${JSON.stringify(value)}`);
    }
  }
});

test("digits without a number match no answer", async () => {
  for (const to of ["", "0", "+", "anonymous"]) await assert.rejects(checkAgainst(WHOLE, { ...CALL, to }), Unavailable);
});

test("a silent, slow or stopped gate is no allow, in time", { timeout: 5000 }, async () => {
  const dials = (url) => client(url, { timeout: 200 }).check(CALL);
  const timeout = { name: "Unavailable", reason: "client.timeout" };
  await assert.rejects(serving(() => undefined, dials), timeout);
  await assert.rejects(serving((socket) => socket.write(WHOLE.slice(0, -1)), dials), timeout); // and no end
  const url = await serving(() => undefined, (address) => address);
  await assert.rejects(client(url).check(CALL), { name: "Unavailable", reason: "client.unreachable" });
  await assert.rejects(client(url).revoke(CLEAR, { channel: "call" }), NotRecorded);
});

test("a kept connection that was closed is no failure: the check is repeated with its call id", async () => {
  const bodies = [];
  const serve = (socket, body) => {
    bodies.push(body.call_id);
    if (bodies.length === 2) socket.destroy();
    else socket.write(WHOLE);
  };
  await serving(serve, async (url) => {
    await client(url).check(CALL);
    await client(url).check(CALL);
  });
  assert.equal(bodies.length, 3);
  assert.notEqual(bodies[0], bodies[1]);
  assert.equal(bodies[1], bodies[2]);
});

test("a gate that closes every connection is asked twice at most", async () => {
  let requests = 0;
  const serve = (socket) => {
    requests += 1;
    socket.destroy();
  };
  await assert.rejects(serving(serve, (url) => client(url).check(CALL)), { reason: "client.unreachable" });
  assert.equal(requests, 2);
});
