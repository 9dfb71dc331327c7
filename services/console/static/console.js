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
for (const form of document.querySelectorAll("form[data-draft]")) {
  const key = "draft:" + form.dataset.draft;
  const fields = () => [...form.elements].filter((e) => e.name && e.type !== "hidden" && e.type !== "password");
  try {
    const kept = JSON.parse(localStorage.getItem(key) || "null");
    if (kept && form.dataset.restore !== "no") {
      for (const field of fields()) {
        if (!(field.name in kept)) continue;
        if (field.type === "checkbox" || field.type === "radio") field.checked = [].concat(kept[field.name]).includes(field.value);
        else field.value = kept[field.name];
      }
      form.dispatchEvent(new Event("change", { bubbles: true }));
    }
  } catch { localStorage.removeItem(key); }
  form.addEventListener("input", () => {
    const kept = {};
    for (const field of fields()) {
      if (field.type === "checkbox" || field.type === "radio") {
        if (field.checked) kept[field.name] = [].concat(kept[field.name] || [], field.value);
        else kept[field.name] = kept[field.name] || [];
      } else kept[field.name] = field.value;
    }
    localStorage.setItem(key, JSON.stringify(kept));
  });
}
for (const done of document.querySelectorAll("[data-draft-done]")) localStorage.removeItem("draft:" + done.dataset.draftDone);

// --- the board -----------------------------------------------------------------------------------------------------------
const board = document.getElementById("board");
const age = document.getElementById("age");
const STALE_AFTER = 6000;
let skew = 0;
let heardAt = performance.now();
let asOf = age && age.dataset.asOf ? Date.parse(age.dataset.asOf) : null;

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

function order() {
  const alerts = document.getElementById("alerts");
  const rows = [...alerts.children];
  const sorted = [...rows].sort((a, b) => (a.dataset.order < b.dataset.order ? -1 : 1));
  if (sorted.some((row, place) => row !== rows[place])) {
    const focused = document.activeElement;
    alerts.append(...sorted);
    if (focused && alerts.contains(focused)) focused.focus({ preventScroll: true });
  }
  const empty = document.getElementById("empty");
  if (empty) empty.hidden = rows.length > 0;
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
let page = 0;
function turnPage() {
  const cells = [...document.querySelectorAll(".cell")];
  for (const cell of cells) delete cell.dataset.offPage;
  if (document.documentElement.scrollHeight <= innerHeight + 2) { page = 0; return; }
  const calm = cells.filter((cell) => !cell.classList.contains("needs-human"));
  const rows = Math.max(8, Math.floor(cells.length * innerHeight / document.documentElement.scrollHeight * 0.85) - (cells.length - calm.length));
  const pages = Math.ceil(calm.length / rows);
  page = (page + 1) % pages;
  calm.forEach((cell, place) => { if (Math.floor(place / rows) !== page) cell.dataset.offPage = ""; });
}

if (board) {
  const needing = () => document.querySelectorAll("#needs li").length;
  let needed = needing();
  board.addEventListener("as_of", (event) => {
    asOf = Date.parse(event.detail.data);
    heardAt = performance.now();
    skew = asOf - Date.now();
    if (Math.abs(skew) < 1500) skew = 0;
    sayAge();
  });
  document.body.addEventListener("htmx:after:swap", () => {
    order();
    countDown();
    if (needing() > needed) beep();
    needed = needing();
    if (wall) turnPage();
  });
  if (wall) { turnPage(); setInterval(turnPage, 10000); }
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
const pushSaid = document.getElementById("push-said");
function sayOfPush(reason) {
  if (pushSaid) pushSaid.textContent = pushSaid.dataset[reason] || "";
}
async function subscribeToPush() {
  const answer = await fetch("/push/key", { headers: { Accept: "application/json" } });
  if (!answer.ok) return sayOfPush("off");
  if (await Notification.requestPermission() !== "granted") return sayOfPush("denied");
  const applicationServerKey = (await answer.json()).public_key;
  const registration = await navigator.serviceWorker.ready;
  const before = await registration.pushManager.getSubscription();
  // A subscription that was made with another key gets nothing any more.
  if (before) await before.unsubscribe();
  const subscription = await registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey });
  const form = document.createElement("form");
  form.method = "post";
  form.action = "/push/subscription";
  const label = navigator.userAgentData?.platform || navigator.platform || "";
  const fields = { csrf: document.querySelector("input[name=csrf]").value, subscription: JSON.stringify(subscription), label };
  for (const [name, value] of Object.entries(fields)) {
    const field = document.createElement("input");
    field.type = "hidden";
    field.name = name;
    field.value = value;
    form.append(field);
  }
  document.body.append(form);
  form.submit();
}
if (subscribe) {
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
