import { Lines, draw, stacked } from "./chart.js";

const $ = (id) => document.getElementById(id);
const board = $("board");
const words = JSON.parse(board.dataset.words);
const language = board.dataset.language;
const most = Number(board.dataset.seconds);
const SPOKEN_EVERY = 15_000;
const SILENT_AFTER = 5_000; // milliseconds: a gate sends a message each second
const locale = language === "en" ? "en-GB" : language;
const figures = new Intl.NumberFormat(locale);
const short = new Intl.NumberFormat(locale, { maximumFractionDigits: 1 });
const percent = new Intl.NumberFormat(locale, { style: "percent", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat(locale, { timeZone: board.dataset.zone, timeStyle: "medium" });
const day = new Intl.DateTimeFormat(locale, { timeZone: board.dataset.zone, dateStyle: "medium", timeStyle: "short" });
const date = new Intl.DateTimeFormat(locale, { timeZone: "UTC", dateStyle: "medium" });

const rateChart = new Lines($("rate-chart"), ["allow", "deny"], most);
const SLOW = 250; // milliseconds, after which dialers time out
const latencyChart = new Lines($("latency-chart"), ["p50", "p99"], most, SLOW);
let seconds = [];
let source = null;
let heardAt = performance.now();
let paused = false;
let spokenAt = 0;
let spokenReady = null;

function say(key, names = {}) {
  return (words[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => names[name] ?? "");
}

function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function icon(name) {
  return draw("svg", { class: "icon", viewBox: "0 0 20 20", width: 16, height: 16, "aria-hidden": "true" },
    draw("use", { href: `/console/assets/icons.svg#${name}` }));
}

function setText(id, text) {
  const element = $(id);
  if (element.textContent !== text) element.textContent = text;
}

// ---- the tiles

function figure(value) {
  return value < 0 ? "–" : value >= 100 ? figures.format(Math.round(value)) : short.format(value);
}

function scale({ top, peak }, unit) {
  const text = say("live.top", { n: `${short.format(top)}${unit}` });
  return peak > top ? `${text}, ${say("live.peak", { n: `${figure(peak)}${unit}` })}` : text;
}

function tiles(message) {
  const [, allow, deny, p50, p99] = seconds.at(-1) ?? [0, 0, 0, -1, -1];
  setText("rate", figures.format(allow + deny));
  setText("rate-denied", say("live.of_them_denied", { n: figures.format(deny) }));
  setText("p50", figure(p50));
  setText("p99", figure(p99));
  const rate = rateChart.show(seconds.map((second) => second[1] + second[2]), seconds.map((second) => second[2]));
  setText("rate-most", scale(rate, ""));
  const slowness = latencyChart.show(...[3, 4].map((column) => seconds.map((second) => second[column] < 0 ? null : second[column])));
  setText("latency-most", scale(slowness, " ms"));
  const allowed = message.campaigns.reduce((sum, campaign) => sum + campaign[1], 0);
  const denied = message.campaigns.reduce((sum, campaign) => sum + campaign[2], 0);
  const all = allowed + denied;
  setText("share", all ? percent.format(allowed / all) : "–");
  setText("allowed", figures.format(allowed));
  setText("denied", figures.format(denied));
  $("split").replaceChildren(stacked(all ? [["allow", allowed / all], ["deny", denied / all]] : [["none", 1]]));
}

function readiness(message) {
  setText("ready", say(message.ready ? "live.ready" : "live.unready"));
  $("ready").className = `figure word ${message.ready ? "good" : "bad"}`;
  setText("ready-why", message.ready ? say("live.ready_why") : Object.keys(message.problems).join(", "));
  $("problems").hidden = message.ready;
  $("problems").querySelector("ul").replaceChildren(...Object.entries(message.problems).map(([name, why]) =>
    make("li", {}, words[`problem.${name.split(" ")[0]}`] ?? "", " ", make("code", {}, name), make("span", { lang: "en" }, ` ${why}`))));
  const status = message.standing;
  setText("open-requests", figures.format(status.requests.length));
  setText("weak-callers", figures.format(status.caller_ids.filter((callerId) => !["class", "proved"].includes(callerId.state)).length));
  const left = status.registries.filter((registry) => registry.ends_at).map((registry) => registry.days_left);
  setText("next-expiry", left.length ? daysLeft(Math.min(...left)) : say("live.none"));
  $("proof-row").hidden = !status.proof;
  if (status.proof) setText("proof", say(status.proof.ok ? "live.proof" : "live.proof_failed", { at: day.format(new Date(status.proof.at)), n: figures.format(status.proof.records) }));
}

function pauses(message) {
  const lines = message.standing.paused.flatMap((campaign) => [
    ...campaign.paused_by.includes("configuration") ? [say("live.campaign_paused_configured", { campaign: campaign.id })] : [],
    ...campaign.paused_by.includes("supervisor") ? [say("live.campaign_paused_supervisor", {
      campaign: campaign.id, actor: campaign.pause_actor, reason: campaign.pause_reason, since: day.format(new Date(campaign.pause_at)) })] : [],
    ...campaign.limits.filter((limit) => limit.not_before).map((limit) => overLimit(campaign.id, limit)),
  ]);
  $("paused").hidden = lines.length === 0;
  $("paused").querySelector("ul").replaceChildren(...lines.map((line) => make("li", {}, line)));
}

function shadows(message) {
  const { shadow, let_through } = message.standing;
  $("shadow").hidden = shadow.length === 0;
  $("shadow").querySelector("ul").replaceChildren(...shadow.map((scope) =>
    make("li", {}, say(`live.shadow_${scope.kind}`, { name: scope.name, until: date.format(new Date(scope.last_day)) }))));
  setText("shadow-today", say("live.shadow_today", { n: figures.format(let_through) }));
}

function overLimit(campaign, limit) {
  return say("live.campaign_paused", {
    campaign,
    since: day.format(new Date(limit.since)),
    until: day.format(new Date(limit.not_before)),
    abandoned: figures.format(limit.abandoned),
    compared: figures.format(limit.compared),
    above: figures.format(limit.above),
    out_of: figures.format(limit.out_of),
  });
}

// ---- lists of bars

function bars(id, rows, line) {
  $(id).replaceChildren(...rows.slice(0, 8).map(line));
  $(`${id}-empty`).hidden = rows.length > 0;
}

function reasons(message) {
  const top = Math.max(1, ...message.reasons.map(([, count]) => count));
  bars("reasons", message.reasons, ([code, count]) => make("li", {},
    make("span", { class: "label", title: code }, say(`code.${code}`)),
    make("span", { class: "value" }, figures.format(count)), stacked([["deny", count / top]])));
}

function campaigns(message) {
  const top = Math.max(1, ...message.campaigns.map(([, allow, deny]) => allow + deny));
  bars("campaigns", message.campaigns, ([name, allow, deny]) => make("li", {},
    make("span", { class: "label" }, name === "other" ? say("live.other")
      : make("a", { href: `/console/campaigns/${encodeURIComponent(name)}` }, name)),
    make("span", { class: "value" }, figures.format(allow + deny), " ",
      make("small", { class: "quiet" }, say("live.denied", { n: percent.format(deny / (allow + deny)) }))),
    stacked([["allow", allow / top], ["deny", deny / top]])));
}

// ---- the latest decisions

function feed(message) {
  const body = $("rows");
  const shown = new Map([...body.children].map((row) => [row.dataset.id, row]));
  const focused = body.contains(document.activeElement);
  if (!focused) body.replaceChildren(...message.rows.map((decision) => shown.get(decision.id) ?? row(decision)));
  $("rows-empty").hidden = message.rows.length > 0;
}

function row(decision) {
  const at = new Date(decision.at);
  const time = make("time", { datetime: at.toISOString() }, clock.format(at));
  const verdict = decision.shadow ? "shadow" : decision.allow ? "allow" : "deny";
  return make("tr", { "data-id": decision.id, class: verdict },
    make("td", {}, board.dataset.open ? make("a", { href: `/console/decisions/${decision.id}` }, time) : time),
    make("td", {}, make("span", { class: `verdict small ${verdict}` }, icon(decision.allow ? "good" : "bad"), say(`live.${verdict}`))),
    make("td", { class: "number" }, decision.to),
    make("td", {}, decision.campaign || "–", make("span", { class: "quiet from" }, decision.caller_id)),
    make("td", {}, decision.code ? say(`code.${decision.code}`) : "–"));
}

// ---- status

function daysLeft(left) {
  if (left <= 0) return say("live.expired");
  if (left < 1) return say("live.hours", { n: Math.max(1, Math.floor(left * 24)) });
  return say(Math.floor(left) === 1 ? "live.day" : "live.days", { n: Math.floor(left) });
}

function urgency(left, soon) {
  return left <= 0 ? "late" : left <= soon ? "soon" : "fine";
}

function registries(message) {
  $("registries").replaceChildren(...message.standing.registries.map((registry) => make("li", {},
    make("div", {}, make("strong", {}, registry.registry.toUpperCase()), ` ${registry.controller}`,
      make("span", { class: "quiet line" }, registry.consulted_at
        ? say("live.consulted", { at: day.format(new Date(registry.consulted_at)), n: figures.format(registry.numbers) })
        : say("live.never"))),
    make("span", { class: `days ${urgency(registry.days_left, 3)}` }, registry.ends_at ? daysLeft(registry.days_left) : say("live.none")),
    stacked([[urgency(registry.days_left, 3), registry.share_left]]))));
}

function callers(message) {
  const groups = new Map();
  for (const callerId of message.standing.caller_ids) {
    const key = `${callerId.number} ${callerId.state} ${callerId.ends_at}`;
    groups.set(key, { ...callerId, campaigns: [...(groups.get(key)?.campaigns ?? []), callerId.campaign] });
  }
  $("callers").replaceChildren(...[...groups.values()].slice(0, 8).map((group) => make("li", {},
    make("span", { class: "number" }, group.number),
    make("span", { class: `days ${{ class: "fine", proved: "fine", ends: "soon" }[group.state] ?? "late"}` },
      group.state === "proved" || group.state === "ends" ? daysLeft(group.days_left) : say(`state.${group.state}`)),
    make("span", { class: "quiet line wide" }, group.campaigns.join(", ")))));
}

function requests(message) {
  $("requests").replaceChildren(...message.standing.requests.slice(0, 8).map((request) => make("li", {},
    make("div", {}, say(`kind.${request.kind}`), make("span", { class: "quiet line" },
      say("live.due", { at: day.format(new Date(request.due_at)), owner: request.controller }))),
    make("span", { class: `days ${urgency(request.days_left, 7)}` },
      request.days_left < 0 ? say("live.over") : request.days_left === 0 ? say("live.today") : daysLeft(request.days_left)))));
  $("requests-empty").hidden = message.standing.requests.length > 0;
}

// ---- what must be done soon

const MOST_TASKS = 6;

function tasks(message) {
  const found = message.standing.tasks;
  $("tasks-panel").hidden = found.length === 0;
  $("tasks-more").hidden = found.length <= MOST_TASKS;
  setText("tasks-more", say("live.more_tasks", { n: figures.format(found.length - MOST_TASKS) }));
  if ($("tasks").contains(document.activeElement)) return;
  $("tasks").replaceChildren(...found.slice(0, MOST_TASKS).map((task) => make("li", {},
    make("div", {}, task.page ? make("a", { href: task.page }, taskText(task)) : taskText(task), " ", make("span", { class: "quiet" }, task.controller ?? "")),
    make("span", { class: `days ${urgency(task.days_left ?? 0, 7)}` }, taskEnd(task)))));
}

function taskText(task) {
  const name = ["registry_ends", "import_held"].includes(task.kind) ? task.name.toUpperCase() : task.name;
  return say(`live.task_${task.kind}`, { name, campaign: task.campaign ?? "" });
}

function taskEnd(task) {
  if (task.share) return percent.format(task.share);
  if (task.days_left === undefined || task.days_left === null) return say("live.now");
  if (task.kind === "breach_due" && task.days_left <= 0) return say("live.over");
  if (!["request_due", "shadow_ends", "key_ends"].includes(task.kind)) return daysLeft(task.days_left);
  return task.days_left < 0 ? say("live.over") : task.days_left === 0 ? say("live.today") : daysLeft(task.days_left);
}

// ---- status for screen readers, not every second

function speak(message) {
  const now = Date.now();
  if (spokenReady === message.ready && now - spokenAt < SPOKEN_EVERY) return;
  spokenAt = now;
  spokenReady = message.ready;
  const [, allow, deny] = seconds.at(-1) ?? [0, 0, 0];
  setText("spoken", say(message.ready ? "live.spoken" : "live.spoken_unready", { n: figures.format(allow + deny) }));
}

// ---- the stream

function show(message) {
  heardAt = performance.now();
  const newest = seconds.at(-1)?.[0] ?? 0;
  seconds = [...seconds, ...message.seconds.filter((second) => second[0] > newest)].slice(-most);
  if (paused) return;
  tiles(message);
  readiness(message);
  pauses(message);
  shadows(message);
  reasons(message);
  campaigns(message);
  feed(message);
  registries(message);
  callers(message);
  requests(message);
  tasks(message);
  speak(message);
  state("live", say("live.live", { at: clock.format(new Date(message.at)), zone: board.dataset.zone }));
  board.dataset.messages = String(Number(board.dataset.messages ?? 0) + 1);
}

function state(name, text) {
  $("dot").className = `dot ${name}`;
  board.classList.toggle("stale", name === "lost");
  setText("state-text", text);
}

function open() {
  if (source) return;
  heardAt = performance.now();
  source = new EventSource("/console/events");
  source.onmessage = (event) => show(JSON.parse(event.data));
  source.addEventListener("ended", reconnect);
  source.onerror = () => {
    state("lost", say("live.lost"));
    if (source?.readyState === EventSource.CLOSED) reconnect();
  };
}

// The session or the gate has ended. The page stays until a gate responds, since an unreachable gate has no other page.
function reconnect() {
  close();
  state("lost", say("live.lost"));
  setTimeout(() => fetch("/console", { redirect: "manual" }).then(() => location.reload(), reconnect), 2000);
}

function close() {
  source?.close();
  source = null;
}

// A process that hangs keeps its connections open.
setInterval(() => {
  if (source && performance.now() - heardAt > SILENT_AFTER) state("lost", say("live.silent"));
}, 1000);

// A hidden tab needs no stream: a browser opens at most six connections to a host.
document.addEventListener("visibilitychange", () => document.hidden ? close() : open());

const pause = $("pause");
pause.hidden = false;
pause.addEventListener("click", () => {
  paused = !paused;
  pause.setAttribute("aria-pressed", String(paused));
  pause.replaceChildren(icon(paused ? "play" : "pause"), make("span", {}, say(paused ? "live.go_on" : "live.pause")));
  if (paused) state("paused", say("live.paused"));
});
open();
