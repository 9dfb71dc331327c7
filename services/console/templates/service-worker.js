// Shows push messages, and says so when the device is offline. It keeps no page: what is shown of Red Phone is live.
"use strict";
const FILES = {{ files|tojson }};
const OFFLINE = "/offline" + self.location.search;
const STORE = "red-phone " + OFFLINE + " " + FILES.join(" ");
const UNREADABLE = { title: "Red Phone", body: {{ _("There is a message. Open Red Phone to read it.")|tojson }}, link: "/" };

self.addEventListener("install", (event) => {
  event.waitUntil((async () => {
    const store = await caches.open(STORE);
    await store.addAll(FILES);
    await store.put(OFFLINE, await fetch(OFFLINE, { cache: "reload", credentials: "same-origin" }));
    await self.skipWaiting();
  })());
});

self.addEventListener("activate", (event) => {
  event.waitUntil((async () => {
    for (const name of await caches.keys()) if (name !== STORE) await caches.delete(name);
    await self.clients.claim();
  })());
});

self.addEventListener("fetch", (event) => {
  const request = event.request;
  if (request.method !== "GET") return;
  if (request.mode === "navigate") {
    event.respondWith(fetch(request).catch(() => caches.match(OFFLINE)));
  } else if (FILES.includes(request.url.slice(self.location.origin.length))) {
    event.respondWith(caches.match(request.url).then((kept) => kept || fetch(request)));
  }
});

self.addEventListener("push", (event) => {
  let message;
  try { message = event.data.json(); } catch { message = UNREADABLE; }
  event.waitUntil(self.registration.showNotification(String(message.title || UNREADABLE.title), {
    body: String(message.body || ""),
    icon: {{ icon|tojson }},
    badge: {{ icon|tojson }},
    lang: message.language || "",
    dir: "auto",
    tag: message.tag || "",
    renotify: Boolean(message.tag),
    requireInteraction: Boolean(message.urgent),
    data: { link: message.link || "/" },
  }));
});

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  let link = new URL("/", self.location.origin);
  try { link = new URL(event.notification.data.link, self.location.origin); } catch { /* the board */ }
  if (!["https:", "http:"].includes(link.protocol)) return;
  event.waitUntil((async () => {
    for (const page of await self.clients.matchAll({ type: "window" })) if (page.url === link.href) return page.focus();
    return self.clients.openWindow(link.href);
  })());
});
