// Asks for JSON again and again while somebody looks at the page; shared by all pages of DS01.
"use strict";

window.ds01 = window.ds01 || {};

/**
 * Call `onData` with the JSON at `url` now, and whenever it has changed.
 *
 * Every `seconds` it is asked with the ETag of the last answer, so that what has not changed costs nothing.
 * Where nobody answers, the pauses grow up to a minute. While the page is hidden nothing is asked.
 * `onTrouble` gets "refused" (the page has to be loaded anew, and it is not asked again), "away" (it is
 * tried again) or "" (it is well again). Returns a function that asks at once.
 */
window.ds01.poll = function (url, { headers = {}, seconds = 3, onData, onTrouble = () => {} }) {
  const longest = 60;
  let pause = seconds;
  let etag = "";
  let timer = 0;
  let isAsking = false;
  let isRefused = false;

  async function ask() {
    if (isAsking || isRefused) return;
    isAsking = true;
    clearTimeout(timer);
    try {
      const known = etag ? { "If-None-Match": etag } : {};
      const answer = await fetch(url, { headers: { ...headers, ...known }, cache: "no-store" });
      if (answer.status === 401 || answer.status === 403) {
        isRefused = true;
        onTrouble("refused");
        return;
      }
      if (answer.status !== 304) {
        if (!answer.ok) throw new Error(`status ${answer.status}`);
        const data = await answer.json();
        etag = answer.headers.get("ETag") || "";
        onData(data);
      }
      pause = seconds;
      onTrouble("");
    } catch (error) {
      console.warn(`${url} does not answer:`, error);
      pause = Math.min(longest, 2 * pause);
      onTrouble("away");
    } finally {
      isAsking = false;
      if (!isRefused && !document.hidden) timer = setTimeout(ask, pause * 1000);
    }
  }

  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (!document.hidden) ask();
  });
  ask();
  return ask;
};
