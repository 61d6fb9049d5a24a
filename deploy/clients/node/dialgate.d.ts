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
    constructor(reason: string, text: string, cause?: unknown);
    reason: string;
}
/**
 * The gate denied the call. `reason_class` is `number` (never call it again), `call` (not now, or not like this) or `gate`. If
 * `not_before` is not empty, check again at that time (RFC 3339).
 */
export class Denied extends NotAllowed {
    /** @param {{reasons: Reason[], reason_class?: string, decision_id?: string, not_before?: string}} answer */
    constructor({ reasons, reason_class, decision_id, not_before }: {
        reasons: Reason[];
        reason_class?: string;
        decision_id?: string;
        not_before?: string;
    });
    reasons: Reason[];
    reason_class: string;
    decision_id: string;
    not_before: string;
}
/** There is no usable decision. Do not call; check again in a few seconds. */
export class Unavailable extends NotAllowed {
}
/** The gate did not record an outcome or a revocation. Repeat the request until it succeeds. */
export class NotRecorded extends Error {
    /**
     * @param {string} message
     * @param {unknown} [cause]
     */
    constructor(message: string, cause?: unknown);
}
/** A client for one gate. */
export class Dialgate {
    /**
     * @param {string} url
     * @param {string} [key]
     * @param {{timeout?: number, clock?: () => number}} [options] `timeout` is the total time of one request, `clock` the Unix time,
     *   both in milliseconds
     */
    constructor(url: string, key?: string, { timeout, clock }?: {
        timeout?: number;
        clock?: () => number;
    });
    /**
     * Return the gate's permission for a call. Throws `Denied` if the gate denies it, and `Unavailable` if there is no usable answer.
     *
     * @param {Call} call
     * @returns {Promise<Allow>}
     */
    check({ to, from, campaign, call_id, call_type, agent }: Call): Promise<Allow>;
    /**
     * Report the outcome of an allowed call. `opt_out` also records a revocation. Throws `NotRecorded`.
     *
     * @param {string} decision_id
     * @param {string} outcome
     */
    outcome(decision_id: string, outcome: string): Promise<void>;
    /**
     * Record that the person asked not to be called. Throws `NotRecorded`.
     *
     * @param {string} number
     * @param {{channel: string, actor?: string, proof?: string}} details
     */
    revoke(number: string, { channel, actor, proof }: {
        channel: string;
        actor?: string;
        proof?: string;
    }): Promise<void>;
    #private;
}
export type Call = {
    /**
     * number to dial
     */
    to: string;
    /**
     * caller ID to present
     */
    from: string;
    campaign: string;
    /**
     * repeated requests with the same one count as one attempt
     */
    call_id?: string | undefined;
    /**
     * only if stricter than the campaign's
     */
    call_type?: string | undefined;
    /**
     * ID of the agent who will talk, never a name
     */
    agent?: string | undefined;
};
export type Reason = {
    code: string;
    severity: string;
    law: string;
    text: string;
};
/**
 * A permission. Dial exactly `to` and present `from`, before `valid_until` (RFC 3339). In shadow mode `would` is the gate's decision:
 * if it is `deny`, an enforcing gate would refuse the call for these `reasons`.
 */
export type Allow = {
    decision_id: string;
    to: string;
    from: string;
    valid_until: string;
    reasons: Reason[];
    reason_class: string;
    would: string;
};
