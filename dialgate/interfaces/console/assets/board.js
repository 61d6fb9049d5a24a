import { Lines, draw, stacked } from "./chart.js";

const $ = (id) => document.getElementById(id);
const board = $("board");
const words = JSON.parse(board.dataset.words);
const language = board.dataset.language;
const most = Number(board.dataset.seconds);
const SPOKEN_EVERY = 15_000;
const locale = language === "en" ? "en-GB" : language;
const figures = new Intl.NumberFormat(locale);
const short = new Intl.NumberFormat(locale, { maximumFractionDigits: 1 });
const percent = new Intl.NumberFormat(locale, { style: "percent", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat(locale, { timeZone: board.dataset.zone, timeStyle: "medium" });
const day = new Intl.DateTimeFormat(locale, { timeZone: board.dataset.zone, dateStyle: "medium", timeStyle: "short" });

const rateChart = new Lines($("rate-chart"), ["allow", "deny"], most);
const latencyChart = new Lines($("latency-chart"), ["p50", "p99"], most);
let seconds = [];
let source = null;
let paused = false;
let spokenAt = 0;
let spokenReady = null;

function say(key, names = {}) {
  return (words[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => names[name] ?? "");
}

function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function icon(name) {
  return draw("svg", { class: "icon", viewBox: "0 0 20 20", width: 16, height: 16, "aria-hidden": "true" },
    draw("use", { href: `/console/assets/icons.svg#${name}` }));
}

function put(id, text) {
  const place = $(id);
  if (place.textContent !== text) place.textContent = text;
}

// ---- the tiles

function figure(value) {
  return value < 0 ? "–" : value >= 100 ? figures.format(Math.round(value)) : short.format(value);
}

function tiles(told) {
  const [, allow, deny, p50, p99] = seconds.at(-1) ?? [0, 0, 0, -1, -1];
  put("rate", figures.format(allow + deny));
  put("rate-denied", say("live.of_them_denied", { n: figures.format(deny) }));
  put("p50", figure(p50));
  put("p99", figure(p99));
  const rate = rateChart.show(seconds.map((each) => each[1] + each[2]), seconds.map((each) => each[2]));
  put("rate-most", say("live.top", { n: figures.format(rate) }));
  const top = latencyChart.show(...[3, 4].map((at) => seconds.map((each) => each[at] < 0 ? null : each[at])));
  put("latency-most", say("live.top", { n: `${short.format(top)} ms` }));
  const allowed = told.campaigns.reduce((sum, each) => sum + each[1], 0);
  const denied = told.campaigns.reduce((sum, each) => sum + each[2], 0);
  const all = allowed + denied;
  put("share", all ? percent.format(allowed / all) : "–");
  put("allowed", figures.format(allowed));
  put("denied", figures.format(denied));
  $("split").replaceChildren(stacked(all ? [["allow", allowed / all], ["deny", denied / all]] : [["none", 1]]));
}

function readiness(told) {
  put("ready", say(told.ready ? "live.ready" : "live.unready"));
  $("ready").className = `figure word ${told.ready ? "good" : "bad"}`;
  put("ready-why", told.ready ? say("live.ready_why") : Object.keys(told.problems).join(", "));
  $("problems").hidden = told.ready;
  $("problems").querySelector("ul").replaceChildren(...Object.entries(told.problems).map(([name, why]) =>
    make("li", {}, make("code", {}, name), ` ${why}`)));
  const stands = told.standing;
  put("open-requests", figures.format(stands.requests.length));
  put("weak-callers", figures.format(stands.caller_ids.filter((each) => !["class", "proved"].includes(each.state)).length));
  const left = stands.registries.filter((each) => each.ends_at).map((each) => each.days_left);
  put("next-expiry", left.length ? daysLeft(Math.min(...left)) : say("live.none"));
}

// ---- lists of bars

function bars(id, rows, line) {
  $(id).replaceChildren(...rows.slice(0, 8).map(line));
  $(`${id}-empty`).hidden = rows.length > 0;
}

function reasons(told) {
  const top = Math.max(1, ...told.reasons.map((each) => each[1]));
  bars("reasons", told.reasons, ([code, count]) => make("li", {},
    make("span", { class: "label", title: code }, say(`code.${code}`)),
    make("span", { class: "value" }, figures.format(count)), stacked([["deny", count / top]])));
}

function campaigns(told) {
  const top = Math.max(1, ...told.campaigns.map((each) => each[1] + each[2]));
  bars("campaigns", told.campaigns, ([name, allow, deny]) => make("li", {},
    make("span", { class: "label" }, name === "other" ? say("live.other") : name),
    make("span", { class: "value" }, figures.format(allow + deny), " ",
      make("small", { class: "quiet" }, say("live.denied", { n: percent.format(deny / (allow + deny)) }))),
    stacked([["allow", allow / top], ["deny", deny / top]])));
}

// ---- the last decisions

function feed(told) {
  const place = $("rows");
  const known = new Map([...place.children].map((row) => [row.dataset.id, row]));
  const focused = document.activeElement?.closest?.("#rows") !== null && document.activeElement?.closest?.("#rows") !== undefined;
  if (!focused) place.replaceChildren(...told.rows.map((each) => known.get(each.id) ?? row(each)));
  $("rows-empty").hidden = told.rows.length > 0;
}

function row(each) {
  const time = make("time", { datetime: each.at }, clock.format(new Date(each.at)));
  const verdict = each.allow ? "allow" : "deny";
  return make("tr", { "data-id": each.id, class: verdict },
    make("td", {}, board.dataset.open ? make("a", { href: `/console/decisions/${each.id}` }, time) : time),
    make("td", {}, make("span", { class: `verdict small ${verdict}` }, icon(each.allow ? "good" : "bad"), say(`live.${verdict}`))),
    make("td", { class: "number" }, each.to),
    make("td", {}, each.campaign || "–", make("span", { class: "quiet from" }, each.caller_id)),
    make("td", {}, each.code ? say(`code.${each.code}`) : "–"));
}

// ---- how things stand

function daysLeft(left) {
  if (left <= 0) return say("live.over");
  if (left < 1) return say("live.hours", { n: Math.max(1, Math.floor(left * 24)) });
  return say(Math.floor(left) === 1 ? "live.day" : "live.days", { n: Math.floor(left) });
}

function urgency(left, soon) {
  return left <= 0 ? "late" : left <= soon ? "soon" : "fine";
}

function registries(told) {
  $("registries").replaceChildren(...told.standing.registries.map((each) => make("li", {},
    make("div", {}, make("strong", {}, each.registry.toUpperCase()), ` ${each.controller}`,
      make("span", { class: "quiet line" }, each.consulted_at
        ? say("live.consulted", { at: day.format(new Date(each.consulted_at)), n: figures.format(each.numbers) })
        : say("live.never"))),
    make("span", { class: `days ${urgency(each.days_left, 3)}` }, each.ends_at ? daysLeft(each.days_left) : say("live.none")),
    stacked([[urgency(each.days_left, 3), each.share_left]]))));
}

function callers(told) {
  const groups = new Map();
  for (const each of told.standing.caller_ids) {
    const key = `${each.number} ${each.state} ${each.ends_at}`;
    groups.set(key, { ...each, campaigns: [...(groups.get(key)?.campaigns ?? []), each.campaign] });
  }
  $("callers").replaceChildren(...[...groups.values()].slice(0, 8).map((each) => make("li", {},
    make("span", { class: "number" }, each.number),
    make("span", { class: `days ${{ class: "fine", proved: "fine", ends: "soon" }[each.state] ?? "late"}` },
      each.state === "proved" || each.state === "ends" ? daysLeft(each.days_left) : say(`state.${each.state}`)),
    make("span", { class: "quiet line wide" }, each.campaigns.join(", ")))));
}

function requests(told) {
  $("requests").replaceChildren(...told.standing.requests.slice(0, 8).map((each) => make("li", {},
    make("div", {}, say(`kind.${each.kind}`), make("span", { class: "quiet line" },
      say("live.due", { at: day.format(new Date(each.due_at)), owner: each.controller }))),
    make("span", { class: `days ${urgency(each.days_left, 7)}` },
      each.days_left < 0 ? say("live.over") : each.days_left === 0 ? say("live.today") : daysLeft(each.days_left)))));
  $("requests-empty").hidden = told.standing.requests.length > 0;
}

// ---- aloud, and not every second

function speak(told) {
  const now = Date.now();
  if (spokenReady === told.ready && now - spokenAt < SPOKEN_EVERY) return;
  spokenAt = now;
  spokenReady = told.ready;
  const [, allow, deny] = seconds.at(-1) ?? [0, 0, 0];
  put("spoken", say(told.ready ? "live.spoken" : "live.spoken_unready", { n: figures.format(allow + deny) }));
}

// ---- the stream

function show(told) {
  const newest = seconds.at(-1)?.[0] ?? 0;
  seconds = [...seconds, ...told.seconds.filter((each) => each[0] > newest)].slice(-most);
  if (paused) return;
  tiles(told);
  readiness(told);
  reasons(told);
  campaigns(told);
  feed(told);
  registries(told);
  callers(told);
  requests(told);
  speak(told);
  state("live", say("live.live", { at: clock.format(new Date(told.at)), zone: board.dataset.zone }));
  board.dataset.messages = String(Number(board.dataset.messages ?? 0) + 1);
}

function state(name, text) {
  $("dot").className = `dot ${name}`;
  board.classList.toggle("stale", name === "lost");
  put("state-text", text);
}

function open() {
  if (source) return;
  source = new EventSource("/console/events");
  source.onmessage = (event) => show(JSON.parse(event.data));
  source.addEventListener("ended", again);
  source.onerror = () => {
    state("lost", say("live.lost"));
    if (source?.readyState === EventSource.CLOSED) again();
  };
}

// The session or the gate has ended. The page stays until somebody answers: a gate that is away has no other to show.
function again() {
  close();
  state("lost", say("live.lost"));
  setTimeout(() => fetch("/console", { redirect: "manual" }).then(() => location.reload(), again), 2000);
}

function close() {
  source?.close();
  source = null;
}

// A tab that nobody sees needs no stream: a browser opens six connections to a host, and no more.
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
