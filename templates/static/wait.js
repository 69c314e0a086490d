// The page on which one waits for a start: its steps and their times, the build, the queue, the end.
"use strict";

(function () {
  const root = document.getElementById("ds01-wait");
  const { progress, user, server, base } = root.dataset;
  const find = (name, within = root) => within.querySelector(`[data-ds01="${name}"]`);
  const setText = (node, text) => {
    if (node.textContent !== text) node.textContent = text;
  };
  const mostLines = 200;
  const words = { later: ", to come", now: ", now", done: ", done", failed: ", failed" };
  const steps = [...root.querySelectorAll("[data-step]")];
  let shownUntil = "";
  let lines = [];
  let isOver = false;
  // How far the clock here is ahead of the server's, by which events are dated.
  let aheadMs = 0;
  // What counts on: the node that shows it, and since when.
  const running = { step: null, build: null };

  function showSpan(ms) {
    const seconds = Math.max(0, Math.round(ms / 1000));
    if (seconds < 60) return `${seconds} s`;
    const minutes = Math.floor(seconds / 60);
    if (minutes < 60) return `${minutes} min ${seconds % 60} s`;
    return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  }

  function count() {
    for (const one of Object.values(running)) {
      if (one) setText(one.node, showSpan(Date.now() - aheadMs - one.since));
    }
  }

  function end(what, at) {
    if (running[what]) setText(running[what].node, showSpan(at - running[what].since));
    running[what] = null;
  }

  function setState(item, state) {
    item.dataset.state = state;
    setText(find("state", item), words[state]);
    if (state === "now") item.setAttribute("aria-current", "step");
    else item.removeAttribute("aria-current");
  }

  function goTo(item, at) {
    if (item.dataset.state === "now") return;
    end("build", at);
    end("step", at);
    const place = steps.indexOf(item);
    steps.forEach((one, index) => setState(one, index < place ? "done" : index === place ? "now" : "later"));
    running.step = { node: find("took", item), since: at };
  }

  function addBuildStep(message, at) {
    const list = find("build");
    const before = list.lastElementChild;
    if (before && message === `${before.firstElementChild.textContent} failed`) {
      setText(before.firstElementChild, message);
      end("build", at);
      return;
    }
    end("build", at);
    const line = document.createElement("li");
    const [name, took] = [document.createElement("span"), document.createElement("span")];
    took.className = "ds01-took";
    name.textContent = message;
    line.append(name, took);
    list.append(line);
    list.hidden = false;
    running.build = { node: took, since: at };
  }

  function addLog(message) {
    lines = [...lines, ...message.split("\n")].slice(-mostLines);
    const box = find("log");
    const shown = box.querySelector("pre");
    const isAtEnd = shown.scrollTop + shown.clientHeight >= shown.scrollHeight - 4;
    setText(shown, lines.join("\n"));
    box.hidden = false;
    if (isAtEnd) shown.scrollTop = shown.scrollHeight;
  }

  function setProgress(percent) {
    const bar = root.querySelector("[role=progressbar]");
    bar.setAttribute("aria-valuenow", percent);
    bar.firstElementChild.style.width = `${percent}%`;
  }

  function showStep(event) {
    const at = Date.parse(event.at);
    const item = steps.find((one) => one.dataset.step === event.step);
    if (!item) return;
    goTo(item, at);
    const queue = find("queue");
    queue.hidden = event.kind !== "queue";
    if (event.kind === "queue") {
      setText(queue, event.message);
    } else if (event.kind === "build") {
      addBuildStep(event.message, at);
    } else {
      end("build", at);
      const message = find("message", item);
      setText(message, event.message);
      message.hidden = false;
    }
    setText(find("now"), event.message);
  }

  function fail(event) {
    isOver = true;
    const at = Date.now() - aheadMs;
    end("build", at);
    end("step", at);
    const item = steps.find((one) => one.dataset.state === "now");
    if (item) setState(item, "failed");
    root.querySelector(".progress-bar").classList.add("bg-danger");
    for (const name of ["queue", "hint"]) find(name).hidden = true;
    find("cancel").hidden = true;
    root.querySelector("h1").textContent = "The start failed";
    setText(find("now"), "");
    const box = find("failure");
    if (event.html_message) {
      // HTML of our own, in which the server has escaped all that anybody else wrote.
      const parsed = new DOMParser().parseFromString(event.html_message, "text/html");
      find("why").replaceChildren(...parsed.body.childNodes);
      box.querySelector("[role=alert]").hidden = true;
      find("log").hidden = true;
    } else {
      box.querySelector("[role=alert]").textContent = event.message.replace(/^Spawn failed: /, "");
    }
    box.hidden = false;
    box.focus();
  }

  function receive(event) {
    if (event.progress !== undefined) setProgress(event.progress);
    if (event.ready || event.failed) {
      source.close();
      // What is being given up is called ready by the Hub for a moment.
      if (find("cancel").disabled) return;
      // The Hub leads on from here to the server.
      if (event.ready) location.reload();
      else fail(event);
      return;
    }
    // After a reconnect all comes once more, from the beginning.
    if (!event.at || event.at <= shownUntil) return;
    shownUntil = event.at;
    aheadMs = Date.now() - Date.parse(event.now);
    if (event.kind === "log") addLog(event.message);
    else showStep(event);
    count();
  }

  function home() {
    location.assign(`${base}home`);
  }

  async function cancel() {
    const button = find("cancel");
    const said = find("cancelling");
    const name = encodeURIComponent(user);
    const path = server ? `servers/${encodeURIComponent(server)}` : "server";
    button.disabled = true;
    setText(said, "The start is given up: what was begun is undone…");
    try {
      const answer = await fetch(`${base}api/users/${name}/${path}`, {
        method: "DELETE",
        headers: { "X-XSRFToken": window.jhdata.xsrf_token },
      });
      if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).message || `status ${answer.status}`);
      isOver = true;
      source.close();
      setText(said, answer.status === 202 ? "It is being undone. You are led to the home page." : "It is given up. You are led to the home page.");
      setTimeout(home, 1200);
    } catch (error) {
      button.disabled = false;
      setText(said, `It could not be given up: ${error.message}. Try again, or load this page anew.`);
    }
  }

  const source = new EventSource(progress);
  source.addEventListener("message", (message) => receive(JSON.parse(message.data)));
  source.addEventListener("error", () => {
    // Closed for good when the Hub says that nothing starts any more: its page then says what came of it.
    if (source.readyState === EventSource.CLOSED && !isOver && !find("cancel").disabled) setTimeout(() => location.reload(), 3000);
  });
  find("cancel").addEventListener("click", cancel);
  setInterval(count, 1000);
})();
