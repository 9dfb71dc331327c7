// What a page does by itself: count down, notice that its data grows old, keep what is typed, send a form once.
// Nothing here decides anything; every page works without it, except that it is then not live.
"use strict";

// --- the reader's zone, told to the server once ------------------------------------------------------------------------
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (zone && !document.cookie.includes("redphone_zone=" + encodeURIComponent(zone))) {
  document.cookie = "redphone_zone=" + encodeURIComponent(zone) + "; path=/; max-age=31536000; samesite=lax";
}

// --- forms: once, and nothing typed is lost ----------------------------------------------------------------------------
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.once === undefined) return;
  if (form.dataset.sent) { event.preventDefault(); return; }
  form.dataset.sent = "yes";
  for (const button of form.querySelectorAll("button")) setTimeout(() => { button.disabled = true; });
  setTimeout(() => { delete form.dataset.sent; for (const b of form.querySelectorAll("button")) b.disabled = false; }, 8000);
});
// What is typed is kept for whoever typed it, for a shift: a session that has ended loses nothing, and nobody else who
// uses this browser is offered it.
const owner = document.documentElement.dataset.owner || "";
const DRAFT_AGE_MAX = 12 * 3600 * 1000;
const draftKey = (name) => "draft:" + owner + ":" + name;
function draftOf(key) {
  try {
    const { at, fields } = JSON.parse(localStorage.getItem(key));
    const old = Date.now() - at;
    return old >= 0 && old < DRAFT_AGE_MAX ? fields || null : null;
  } catch { return null; }
}
function forgetDrafts() {
  const left = document.querySelector("[data-drafts-forget]") !== null;
  for (const key of Object.keys(localStorage).filter((one) => one.startsWith("draft:"))) {
    if (left || (owner && !key.startsWith(draftKey(""))) || draftOf(key) === null) localStorage.removeItem(key);
  }
  for (const done of document.querySelectorAll("[data-draft-done]")) localStorage.removeItem(draftKey(done.dataset.draftDone));
}
// A browser may keep nothing at all.
try { forgetDrafts(); } catch {}
for (const form of owner ? document.querySelectorAll("form[data-draft]") : []) {
  const key = draftKey(form.dataset.draft);
  const fields = () => [...form.elements].filter((e) => e.name && e.type !== "hidden" && e.type !== "password");
  const kept = form.dataset.restore !== "no" && draftOf(key);
  if (kept) {
    for (const field of fields()) {
      if (!(field.name in kept)) continue;
      if (field.type === "checkbox" || field.type === "radio") field.checked = [].concat(kept[field.name]).includes(field.value);
      else field.value = kept[field.name];
    }
    form.dispatchEvent(new Event("change", { bubbles: true }));
  }
  form.addEventListener("input", () => {
    const kept = {};
    for (const field of fields()) {
      if (field.type === "checkbox" || field.type === "radio") {
        if (field.checked) kept[field.name] = [].concat(kept[field.name] || [], field.value);
        else kept[field.name] = kept[field.name] || [];
      } else kept[field.name] = field.value;
    }
    try { localStorage.setItem(key, JSON.stringify({ at: Date.now(), fields: kept })); } catch {}
  });
}

// --- the board -----------------------------------------------------------------------------------------------------------
const board = document.getElementById("board");
const age = document.getElementById("age");
const STALE_AFTER = 6000;
const DEAD_AFTER = 10000;
let skew = 0;
let asOf = age && age.dataset.asOf ? Date.parse(age.dataset.asOf) : null;
let heardAt = performance.now() - (age ? Number(age.dataset.ageSeconds) * 1000 : 0);

function countDown() {
  const now = Date.now() + skew;
  for (const time of document.querySelectorAll("time[data-countdown]")) {
    const left = Math.round((Date.parse(time.dateTime) - now) / 1000);
    if (Number.isNaN(left)) continue;
    const shown = Math.abs(left);
    const parts = [Math.floor(shown / 3600), Math.floor(shown / 60) % 60, shown % 60];
    const text = (parts[0] ? parts[0] + ":" + String(parts[1]).padStart(2, "0") : parts[1]) + ":" + String(parts[2]).padStart(2, "0");
    const said = left >= 0 ? text : board ? board.dataset.overdue : "0:00";
    if (time.textContent !== said) time.textContent = said;
    time.classList.toggle("is-soon", left < 60);
  }
}

function sayAge() {
  if (!age || asOf === null) return;
  const silent = performance.now() - heardAt;
  const stale = silent > STALE_AFTER;
  age.classList.toggle("is-stale", stale);
  const text = stale ? board.dataset.seconds.replace("%s", Math.round(silent / 1000)) : board.dataset.live;
  const shown = document.getElementById("age-text");
  if (shown.textContent !== text) shown.textContent = text;
  const banner = document.getElementById("stale");
  if (banner.hidden === stale) {
    banner.hidden = !stale;
    document.title = (stale ? "STALE – " : "") + document.title.replace(/^STALE – /, "");
    const since = document.getElementById("stale-since");
    since.dateTime = new Date(asOf).toISOString();
    since.textContent = new Date(asOf).toLocaleTimeString(document.documentElement.lang);
  }
}

function inOrder(parent, orderOf) {
  const rows = [...parent.children];
  const orders = new Map(rows.map((row) => [row, orderOf(row)]));
  if (rows.every((row, place) => place === 0 || orders.get(rows[place - 1]) <= orders.get(row))) return;
  const focused = document.activeElement;
  parent.append(...rows.sort((a, b) => (orders.get(a) < orders.get(b) ? -1 : 1)));
  if (focused && parent.contains(focused)) focused.focus({ preventScroll: true });
}

function order() {
  const alerts = document.getElementById("alerts");
  for (const cells of alerts.querySelectorAll(".cells")) inOrder(cells, (cell) => cell.dataset.order);
  inOrder(alerts, (alert) => alert.querySelector(".alert-head").dataset.order);
  document.getElementById("empty").hidden = alerts.children.length > 0;
}

// A connection that says nothing any more is left for a new one: the network may have lost it without telling us.
let connection = null;
let spokeAt = performance.now();
function keepConnected() {
  if (performance.now() - spokeAt < DEAD_AFTER) return;
  spokeAt = performance.now();
  if (connection?.reader) connection.reader.cancel().catch(() => {});
  else if (!connection) htmx.ajax("GET", board.getAttribute("hx-sse:connect"), { source: board });
}

// --- sound on request ------------------------------------------------------------------------------------------------------
const sound = document.getElementById("sound");
let audio = null;
function beep() {
  if (!audio) return;
  for (const [at, pitch] of [[0, 880], [0.25, 660], [0.5, 880]]) {
    const tone = audio.createOscillator(), loudness = audio.createGain();
    tone.frequency.value = pitch;
    loudness.gain.setValueAtTime(0.25, audio.currentTime + at);
    loudness.gain.exponentialRampToValueAtTime(0.001, audio.currentTime + at + 0.22);
    tone.connect(loudness).connect(audio.destination);
    tone.start(audio.currentTime + at);
    tone.stop(audio.currentTime + at + 0.23);
  }
}
if (sound) sound.addEventListener("click", () => {
  const on = sound.getAttribute("aria-pressed") !== "true";
  sound.setAttribute("aria-pressed", String(on));
  if (on) { audio = audio || new AudioContext(); audio.resume(); beep(); } else if (audio) { audio.close(); audio = null; }
});

// --- the wall: pages through what does not fit ------------------------------------------------------------------------------
const wall = document.documentElement.dataset.wall !== undefined;
let from = 0, shown = 0;
function show(cells) {
  for (const cell of document.querySelectorAll(".cell")) cell.toggleAttribute("data-off-page", !cells.has(cell));
  for (const alert of document.querySelectorAll(".alert")) alert.toggleAttribute("data-off-page", !alert.querySelector(".cell:not([data-off-page])"));
  return document.documentElement.scrollHeight <= innerHeight;
}
function fill() {
  const cells = [...document.querySelectorAll(".alert:not(:has(> .is-over)) .cell")];
  const place = document.getElementById("wall-page");
  place.textContent = "";
  if (show(new Set(cells))) { from = 0; shown = cells.length; return; }
  // What needs a human stays on every page, unless it fills them all by itself.
  let kept = cells.filter((cell) => cell.classList.contains("needs-human"));
  if (!show(new Set(kept))) kept = [];
  const turning = kept.length ? cells.filter((cell) => !kept.includes(cell)) : cells;
  if (from >= turning.length) from = 0;
  let fits = 1, least = 1, most = turning.length - from;
  while (least <= most) {
    const tried = (least + most) >> 1;
    if (show(new Set([...kept, ...turning.slice(from, from + tried)]))) { fits = tried; least = tried + 1; } else most = tried - 1;
  }
  shown = fits;
  show(new Set([...kept, ...turning.slice(from, from + shown)]));
  const language = document.documentElement.lang;
  place.textContent = [from + 1, from + shown].map((number) => number.toLocaleString(language)).join("–") + " / " + turning.length.toLocaleString(language);
}
function turnPage() { from += shown; fill(); }

if (board) {
  const needing = () => document.querySelectorAll("#needs li").length;
  let needed = needing();
  board.addEventListener("as_of", (event) => {
    asOf = Date.parse(event.detail.data);
    heardAt = performance.now();
    skew = asOf - Date.now();
    if (Math.abs(skew) < 1500) skew = 0;
    sayDown("");
    sayAge();
  });
  const sayDown = (api) => {
    const down = document.getElementById("stale-down");
    down.hidden = !api;
    document.getElementById("stale-cut").hidden = Boolean(api);
    if (api) down.textContent = down.dataset.text.replace("%s", api);
  };
  board.addEventListener("down", (event) => sayDown(event.detail.data));
  document.addEventListener("htmx:sse:after:connection", (event) => { connection = event.detail.connection; spokeAt = performance.now(); });
  document.addEventListener("htmx:sse:before:message", () => { spokeAt = performance.now(); });
  document.addEventListener("htmx:sse:close", () => { connection = null; });
  document.addEventListener("htmx:sse:error", (event) => {
    if (event.detail.status === 401) location.assign("/sign-in?after=" + encodeURIComponent(location.pathname + location.search));
    else sayDown("");
  });
  document.body.addEventListener("htmx:after:swap", () => {
    order();
    countDown();
    if (needing() > needed) beep();
    needed = needing();
    if (wall) fill();
  });
  if (wall) { fill(); setInterval(turnPage, 10000); addEventListener("resize", fill); }
  setInterval(keepConnected, 1000);
  sayAge();
}
setInterval(() => { countDown(); sayAge(); }, 500);
countDown();

// --- raising ---------------------------------------------------------------------------------------------------------------
const raising = document.getElementById("raise");
if (raising) {
  const words = document.getElementById("words");
  const count = () => {
    let number = 0;
    for (const name of ["headline", "description", "instruction"]) number += raising.elements[name].value.split(/\s+/).filter(Boolean).length;
    words.textContent = words.dataset.text.replace("%s", number.toLocaleString(document.documentElement.lang));
    const fast = ["FLASH", "IMMEDIATE"].includes(raising.elements.precedence.value);
    words.classList.toggle("is-over-limit", fast && number > Number(raising.dataset.wordsMax));
  };
  raising.addEventListener("input", count);
  raising.addEventListener("change", count);
  count();
  if (document.getElementById("preview")) document.getElementById("preview").scrollIntoView({ block: "nearest" });
}
for (const all of document.querySelectorAll("[data-check-all]")) {
  all.hidden = false;
  all.addEventListener("click", () => {
    const boxes = [...all.closest("form").querySelectorAll(`input[name="${all.dataset.checkAll}"]`)];
    const check = boxes.some((box) => !box.checked);
    for (const box of boxes) box.checked = check;
    boxes[0]?.dispatchEvent(new Event("input", { bubbles: true }));
  });
}
for (const file of document.querySelectorAll("input[type=file][data-into]")) {
  file.addEventListener("change", async () => {
    if (file.files[0]) file.form.elements[file.dataset.into].value = await file.files[0].text();
  });
}

// --- installed on a telephone ------------------------------------------------------------------------------------------------
const worker = document.documentElement.dataset.worker;
if ("serviceWorker" in navigator && worker) navigator.serviceWorker.register(worker, { scope: "/" }).catch(() => {});

// --- push: this browser becomes a contact point --------------------------------------------------------------------------------
const subscribe = document.getElementById("push-subscribe");
const pushForm = document.getElementById("push-form");
function sayOfPush(reason) {
  const said = document.getElementById("push-said");
  if (said) said.textContent = said.dataset[reason] || "";
}
function sameKey(subscription, text) {
  const key = new Uint8Array(subscription.options.applicationServerKey || []);
  return btoa(String.fromCharCode(...key)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "") === text.replaceAll("=", "");
}
async function subscribeToPush() {
  if (await Notification.requestPermission() !== "granted") return sayOfPush("denied");
  const applicationServerKey = subscribe.dataset.key;
  const { pushManager } = await navigator.serviceWorker.ready;
  let subscription = await pushManager.getSubscription();
  // One that was made with another key gets nothing any more.
  if (subscription && !sameKey(subscription, applicationServerKey)) { await subscription.unsubscribe(); subscription = null; }
  subscription = subscription || await pushManager.subscribe({ userVisibleOnly: true, applicationServerKey });
  pushForm.elements.subscription.value = JSON.stringify(subscription);
  pushForm.elements.label.value = navigator.userAgentData?.platform || navigator.platform || "";
  pushForm.submit();
}
if (subscribe && pushForm && subscribe.dataset.key) {
  subscribe.hidden = false;
  if (!("serviceWorker" in navigator && "PushManager" in window && "Notification" in window)) {
    subscribe.disabled = true;
    sayOfPush("unsupported");
  } else {
    subscribe.addEventListener("click", async () => {
      subscribe.disabled = true;
      try { await subscribeToPush(); } catch { sayOfPush("failed"); }
      subscribe.disabled = false;
    });
  }
}
