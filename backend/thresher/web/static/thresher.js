// What all pages have: times in the reader's zone, and parts that stay up to date.
"use strict";

const LOOK_EVERY = 2000; // ms between two looks, where the part says nothing else; a slow server is asked less often
const LOOK_SHARE = 9; // ... so that looking takes a tenth of the time
const SOONEST = 250; // ms between two looks because of news, at least
const RETRY_EVERY = 2000; // ms, while the server does not answer

const clock = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

function localTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]:not([title])")) {
    const moment = new Date(time.dateTime);
    time.textContent = clock.format(moment);
    time.title = exact.format(moment);
  }
}

// -- parts that stay up to date: <div id data-live="address of the same part"> -----------------------------------------
// The one place that decides when to look: every so often, and soon after the server has told that there is news
// (data-news: server-sent events), which it does within milliseconds.

class Live {
  constructor(id) {
    this.id = id;
    this.timer = 0;
    this.isLooking = false;
    this.lookedAt = 0;
    this.toldAt = 0; // when there were news
    this.hasEnded = false; // so that the last look is not waited for
    this.soonest = SOONEST;
    this.news = null;
  }

  listen() {
    const address = this.element?.dataset.news;
    if (!address || document.hidden) { this.news?.close(); this.news = null; return; }
    if (this.news && this.news.readyState !== EventSource.CLOSED) return;
    this.news = new EventSource(address);
    const soon = () => {
      this.toldAt = performance.now();
      if (!this.isLooking) this.after(this.rest); // else the look under way sees to it at its end
    };
    this.news.addEventListener("progress", soon);
    this.news.addEventListener("finished", () => { this.news.close(); this.hasEnded = true; soon(); });
  }

  get element() { return document.getElementById(this.id); }

  get rest() { return this.hasEnded ? 0 : Math.max(0, this.soonest - (performance.now() - this.lookedAt)); }

  get every() { return Number(this.element?.dataset.liveEvery) || LOOK_EVERY; }

  after(wait) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.look(), wait);
  }

  async look() {
    const address = this.element?.dataset.live;
    if (!address || this.isLooking) return;
    if (document.hidden) return; // visibilitychange looks again
    this.isLooking = true;
    const began = performance.now();
    this.lookedAt = began;
    this.hasEnded = false;
    try {
      const answer = await fetch(address, { headers: { "HX-Request": "true" }, credentials: "same-origin" });
      if (answer.headers.get("HX-Redirect")) { location.assign(answer.headers.get("HX-Redirect")); return; }
      if (answer.status === 404) { location.reload(); return; }
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      await this.show(await answer.text());
      offline(false);
      this.listen();
      this.soonest = Math.max(SOONEST, (LOOK_SHARE / 3) * (performance.now() - began));
      this.after(this.toldAt > began ? this.rest : Math.max(this.every, LOOK_SHARE * (performance.now() - began)));
    } catch {
      offline(true);
      this.after(RETRY_EVERY);
    } finally {
      this.isLooking = false;
    }
  }

  async show(text) {
    await htmx.swap({ text, target: this.element, sourceElement: this.element, swap: "outerMorph" });
    localTimes(document);
    document.dispatchEvent(new Event("thresher:shown"));
  }
}

function offline(isSo) {
  document.querySelector("[data-offline]").hidden = !isSo;
}

const lives = new Map();
function startLives() {
  for (const part of document.querySelectorAll("[data-live]")) {
    if (lives.has(part.id)) continue;
    const live = new Live(part.id);
    lives.set(part.id, live);
    live.listen();
    live.after(live.every);
  }
}

document.addEventListener("visibilitychange", () => {
  for (const live of lives.values()) { live.listen(); if (!document.hidden) live.look(); }
});

// -- forms --------------------------------------------------------------------------------------------------------------

document.addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (question && !confirm(question)) { event.preventDefault(); return; }
  for (const button of event.target.querySelectorAll("button[data-once]")) {
    setTimeout(() => { button.disabled = true; }); // after the form was read
  }
});
addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll("button[data-once]")) button.disabled = false;
});

document.addEventListener("htmx:after:swap", () => localTimes(document));
document.addEventListener("DOMContentLoaded", () => {
  localTimes(document);
  startLives();
  document.documentElement.dataset.ready = "";
});
