/**
 * A client for checks before each call: `check` returns an allow, and throws in every other case.
 *
 * Names of fields are those of the HTTP API.
 */

import { randomUUID } from "node:crypto";

const MOST_BYTES = 64 * 1024;
const OK = 200;
const CREATED = 201;
const TIMESTAMP = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/;
/** The server closed a kept connection before it read the request. */
const CLOSED = new Set(["ECONNRESET", "EPIPE", "UND_ERR_SOCKET"]);

/**
 * @typedef {object} Call
 * @property {string} to number to dial
 * @property {string} from caller ID to present
 * @property {string} campaign
 * @property {string} [call_id] repeated requests with the same one count as one attempt
 * @property {string} [call_type] only if stricter than the campaign's
 * @property {string} [agent] ID of the agent who will talk, never a name
 */

/**
 * @typedef {object} Reason
 * @property {string} code
 * @property {string} severity
 * @property {string} law
 * @property {string} text
 */

/**
 * A permission. Dial exactly `to` and present `from`, before `valid_until` (RFC 3339). In shadow mode `would` is the gate's decision:
 * if it is `deny`, an enforcing gate would refuse the call for these `reasons`.
 *
 * @typedef {object} Allow
 * @property {string} decision_id
 * @property {string} to
 * @property {string} from
 * @property {string} valid_until
 * @property {Reason[]} reasons
 * @property {string} reason_class
 * @property {string} would
 */

/** The call must not be placed. `reason` is a reason code or error code, or `client.…` if the gate gave no usable answer. */
export class NotAllowed extends Error {
  /**
   * @param {string} reason
   * @param {string} text
   * @param {unknown} [cause]
   */
  constructor(reason, text, cause) {
    super(text ? `${reason}: ${text}` : reason, { cause });
    this.name = new.target.name;
    this.reason = reason;
  }
}

/**
 * The gate denied the call. `reason_class` is `number` (never call it again), `call` (not now, or not like this) or `gate`. If
 * `not_before` is not empty, check again at that time (RFC 3339).
 */
export class Denied extends NotAllowed {
  /** @param {{reasons: Reason[], reason_class?: string, decision_id?: string, not_before?: string}} answer */
  constructor({ reasons, reason_class = "", decision_id = "", not_before = "" }) {
    super(reasons[0].code, reasons[0].text);
    this.reasons = reasons;
    this.reason_class = reason_class;
    this.decision_id = decision_id;
    this.not_before = not_before;
  }
}

/** There is no usable decision. Do not call; check again in a few seconds. */
export class Unavailable extends NotAllowed {}

/** The gate did not record an outcome or a revocation. Repeat the request until it succeeds. */
export class NotRecorded extends Error {
  /**
   * @param {string} message
   * @param {unknown} [cause]
   */
  constructor(message, cause) {
    super(message, { cause });
    this.name = "NotRecorded";
  }
}

/** A client for one gate. */
export class Dialgate {
  #url;
  #headers;
  #timeout;
  #clock;

  /**
   * @param {string} url
   * @param {string} [key]
   * @param {{timeout?: number, clock?: () => number}} [options] `timeout` is the total time of one request, `clock` the Unix time,
   *   both in milliseconds
   */
  constructor(url, key = "", { timeout = 500, clock = Date.now } = {}) {
    this.#url = url.replace(/\/+$/, "");
    // A compressed answer would have no Content-Length.
    this.#headers = { "Accept-Encoding": "identity", "Content-Type": "application/json", ...(key && { Authorization: `Bearer ${key}` }) };
    this.#timeout = timeout;
    this.#clock = clock;
  }

  /**
   * Return the gate's permission for a call. Throws `Denied` if the gate denies it, and `Unavailable` if there is no usable answer.
   *
   * @param {Call} call
   * @returns {Promise<Allow>}
   */
  async check({ to, from, campaign, call_id, call_type, agent }) {
    let response;
    try {
      response = await this.#post("/v1/check", { to, from, campaign, call_id: call_id || randomUUID(), call_type, agent });
    } catch (error) {
      const isTimeout = error instanceof Error && error.name === "TimeoutError";
      throw new Unavailable(isTimeout ? "client.timeout" : "client.unreachable", String(error), error);
    }
    const { status, answer } = response;
    if (answer?.decision === "allow") return this.#checkAllow(status, answer, to);
    const isDenial = answer?.decision === "deny" && typeof answer.reasons?.[0]?.code === "string";
    if (!isDenial) {
      const { code, message = "" } = answer?.error ?? {};
      throw new Unavailable(typeof code === "string" ? code : "client.not_understood", `HTTP ${status} ${message}`.trim());
    }
    if (status === OK && answer.decision_id) throw new Denied(answer);
    throw new Unavailable(answer.reasons[0].code, answer.reasons[0].text);
  }

  /**
   * Report the outcome of an allowed call. `opt_out` also records a revocation. Throws `NotRecorded`.
   *
   * @param {string} decision_id
   * @param {string} outcome
   */
  async outcome(decision_id, outcome) {
    await this.#write("/v1/outcomes", { decision_id, outcome });
  }

  /**
   * Record that the person asked not to be called. Throws `NotRecorded`.
   *
   * @param {string} number
   * @param {{channel: string, actor?: string, proof?: string}} details
   */
  async revoke(number, { channel, actor, proof }) {
    await this.#write("/v1/revocations", { number, channel, actor, proof });
  }

  /**
   * Return `answer` if the client can rely on it to call the number `to`.
   *
   * @param {number} status
   * @param {any} answer
   * @param {string} to
   * @returns {Allow}
   */
  #checkAllow(status, answer, to) {
    const { decision_id, from, valid_until, reasons = [], reason_class = "", would = "" } = answer;
    const texts = [decision_id, answer.to, from, valid_until, reason_class, would];
    const isComplete = texts.every((text) => typeof text === "string") && decision_id && from && TIMESTAMP.test(valid_until);
    if (status !== OK || !isComplete || !Array.isArray(reasons)) {
      throw new Unavailable("client.not_understood", `HTTP ${status} with an incomplete allow`);
    }
    // In shadow mode, the gate repeats a number that it cannot read.
    const isUnread = would === "deny" && answer.to === to;
    if (!isUnread && !isSame(answer.to, to)) throw new Unavailable("client.other_number", "the answer is for another number");
    if (!(this.#clock() < Date.parse(valid_until))) throw new Unavailable("client.stale", "the permission has ended");
    return { decision_id, to: answer.to, from, valid_until, reasons, reason_class, would };
  }

  /**
   * @param {string} path
   * @param {object} body
   */
  async #write(path, body) {
    let response;
    try {
      response = await this.#post(path, body);
    } catch (error) {
      throw new NotRecorded(`cannot reach the gate: ${error}; send the request again`, error);
    }
    const { status, answer } = response;
    if (status !== OK && status !== CREATED) {
      throw new NotRecorded(`the gate answered ${status}: ${answer?.error?.code ?? ""} ${answer?.error?.message ?? ""}`.trim());
    }
  }

  /**
   * Send a POST request, and repeat it once if the connection was closed. A repeated check counts as one attempt, because both
   * requests have the same call id.
   *
   * @param {string} path
   * @param {object} body
   */
  async #post(path, body) {
    const signal = AbortSignal.timeout(this.#timeout);
    /** @type {RequestInit} */
    const request = { method: "POST", headers: this.#headers, body: JSON.stringify(body), redirect: "manual", signal };
    let response;
    try {
      response = await fetch(this.#url + path, request);
    } catch (error) {
      if (!CLOSED.has(/** @type {any} */ (error).cause?.code)) throw error;
      response = await fetch(this.#url + path, request);
    }
    return { status: response.status, answer: await readJson(response) };
  }
}

/**
 * Return the response's JSON, or `undefined` if it is not a response from a gate.
 *
 * @param {Response} response
 * @returns {Promise<any>}
 */
async function readJson(response) {
  const length = response.headers.get("Content-Length");
  if (length === null || !(Number(length) <= MOST_BYTES)) {
    await response.body?.cancel();
    return undefined;
  }
  const text = await response.text();
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/**
 * Return whether both numbers are the same. `requested` may lack its country code or have leading zeros.
 *
 * @param {string} checked
 * @param {string} requested
 */
function isSame(checked, requested) {
  const digits = String(requested).replace(/\D/g, "").replace(/^0+/, "");
  return digits !== "" && checked.startsWith("+") && checked.endsWith(digits);
}
