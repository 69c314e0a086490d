// The home page: what my servers have and how long, kept up to date, and what one does with them.
"use strict";

(function () {
  const root = document.getElementById("ds01-home");
  const { user, base, newsUrl, newsToken } = root.dataset;
  const find = (name, within = root) => within.querySelector(`[data-ds01="${name}"]`);
  const cards = [...root.querySelectorAll(".ds01-server")];
  const stateWords = { running: "Running", starting: "Starting", stopping: "Stopping", held: "Held", stopped: "Stopped" };
  const states = { pending: "starting", active: "running", held: "held" };
  // A server that is not listed yet may have been started a moment ago.
  const isPassing = (state) => state === "starting" || state === "stopping";
  let listed = [];
  let known = null;
  let askNews = null;

  function setText(node, text) {
    if (node.textContent !== text) node.textContent = text;
    node.hidden = !text;
  }

  function say(card, text) {
    setText(find("said", card), text);
  }

  function setRow(card, name, text) {
    setText(find(name, card), text);
    find(`${name}-label`, card).hidden = !text;
  }

  function showMoment(moment) {
    const time = moment.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
    if (moment.toDateString() === new Date().toDateString()) return time;
    return `${time} on ${moment.toLocaleDateString()}`;
  }

  function countDown(until) {
    if (!until) return "";
    const end = new Date(until);
    const minutes = Math.max(0, Math.round((end - Date.now()) / 60000));
    const parts = [[Math.floor(minutes / 60), "h"], [minutes % 60, "min"]].filter(([number]) => number);
    const left = parts.map(([number, unit]) => `${number} ${unit}`).join(" ") || "less than a minute";
    return `${left} left, until ${showMoment(end)}`;
  }

  function setState(card, state) {
    card.dataset.state = state;
    setText(find("state", card), stateWords[state]);
    for (const part of card.querySelectorAll("[data-for]")) part.hidden = !part.dataset.for.split(" ").includes(state);
    for (const name of ["ssh", "ssh-label"]) find(name, card).hidden = state !== "running";
    const failed = find("failed", card);
    if (failed && state !== "stopped") failed.hidden = true;
  }

  function showWarnings(card, warnings) {
    const box = find("warnings", card);
    const shown = [...box.children].map((line) => line.textContent);
    if (shown.join("\n") !== warnings.join("\n")) {
      box.replaceChildren(
        ...warnings.map((warning) => {
          const line = document.createElement("p");
          line.className = "mb-0";
          line.textContent = warning;
          return line;
        }),
      );
    }
    box.hidden = !warnings.length;
  }

  function showServer(card, server) {
    const state = server ? states[server.state] : "stopped";
    if (!server && card.dataset.state === "starting") return;
    const before = card.dataset.state;
    if (before === "stopping" && state === "running") return;
    if (state !== before) setState(card, state);
    if (state !== before && isPassing(before)) say(card, "");
    const left = state === "running" ? server.time_left : { warnings: [] };
    setRow(card, "slots", server ? server.slots.map((slot) => `${slot.profile} ${slot.id}`).join(", ") : "");
    setRow(card, "run", countDown(left.run_until));
    setRow(card, "idle", countDown(left.idle_until));
    setRow(card, "held", state === "held" ? countDown(server.held_until) : "");
    if (!server) setRow(card, "profile", "");
    showWarnings(card, left.warnings.map((warning) => warning.message));
    find("extend", card).hidden = state !== "running" || !server.may_extend;
  }

  function showAll() {
    for (const card of cards.filter((one) => one.isConnected)) {
      showServer(card, listed.find((server) => server.server === card.dataset.server));
    }
  }

  function showNews(news) {
    const names = news.servers.map((server) => server.server);
    // One that was added elsewhere has a card once the page is loaded anew. What has a lease and is none of the
    // Hub's from the beginning never gets one.
    if (known && names.some((name) => !known.has(name))) location.reload();
    known = new Set([...cards.map((card) => card.dataset.server), ...names]);
    listed = news.servers;
    showAll();
  }

  function askHub(server, body) {
    const path = server ? `servers/${encodeURIComponent(server)}` : "server";
    return fetch(`${base}api/users/${encodeURIComponent(user)}/${path}`, {
      method: "DELETE",
      headers: { "X-XSRFToken": window.jhdata.xsrf_token, "Content-Type": "application/json" },
      body: body && JSON.stringify(body),
    });
  }

  // A start that has no lease yet is known to the Hub alone.
  async function checkStarts() {
    const early = cards.filter(
      (card) => card.isConnected && card.dataset.state === "starting" && !listed.some((server) => server.server === card.dataset.server),
    );
    if (!early.length || document.hidden) return;
    const answer = await fetch(`${base}api/users/${encodeURIComponent(user)}`, {
      headers: { "X-XSRFToken": window.jhdata.xsrf_token },
    }).catch(() => null);
    if (!answer || !answer.ok) return;
    const { servers } = await answer.json();
    if (early.some((card) => !servers[card.dataset.server]?.pending)) location.reload();
  }

  async function readRefusal(answer) {
    const said = await answer.json().catch(() => ({}));
    return said.message || `The Hub answered with status ${answer.status}. Try again.`;
  }

  async function stop(card) {
    const before = card.dataset.state;
    setState(card, "stopping");
    say(card, "It is being stopped…");
    try {
      const answer = await askHub(card.dataset.server);
      if (!answer.ok) throw new Error(await readRefusal(answer));
      if (answer.status === 204) setState(card, "stopped");
      say(card, answer.status === 204 ? "It is stopped. Your files are kept." : "It is being stopped…");
      if (!newsUrl && answer.status !== 204) setTimeout(() => location.reload(), 5000);
      if (askNews) askNews();
    } catch (error) {
      setState(card, before);
      say(card, error.message);
    }
  }

  async function remove(card) {
    const title = card.querySelector("h2").textContent;
    if (!window.confirm(`Delete the server “${title}”? Its name and choices go, and what is kept of it; your files stay.`)) return;
    const answer = await askHub(card.dataset.server, { remove: true });
    if (answer.ok) {
      card.remove();
      root.querySelector("h1").focus();
    } else {
      say(card, await readRefusal(answer));
    }
  }

  async function extend(card) {
    const hours = Number(find("extend", card).querySelector("input").value);
    say(card, "More time is asked for…");
    try {
      const answer = await fetch(`${newsUrl}api/servers/${encodeURIComponent(card.dataset.name)}/extend`, {
        method: "POST",
        headers: { Authorization: `token ${newsToken}`, "Content-Type": "application/json" },
        body: JSON.stringify({ hours }),
      });
      if (!answer.ok) throw new Error(await readRefusal(answer));
      const server = await answer.json();
      showServer(card, server);
      say(card, `It may run until ${showMoment(new Date(server.time_left.run_until))} now.`);
    } catch (error) {
      say(card, error.message);
    }
  }

  async function copy(card) {
    const command = `ds01 container run ${card.dataset.name}`;
    try {
      await navigator.clipboard.writeText(command);
      say(card, `Copied: ${command}`);
    } catch {
      // Without TLS a page may not write there.
      window.prompt("To copy:", command);
    }
  }

  for (const card of cards) {
    find("stop", card).addEventListener("click", () => stop(card));
    find("copy", card).addEventListener("click", () => copy(card));
    find("delete", card)?.addEventListener("click", () => remove(card));
    find("extend", card)?.addEventListener("submit", (event) => {
      event.preventDefault();
      extend(card);
    });
  }

  const form = find("new");
  if (form) {
    const input = form.querySelector("input");
    require(["utils"], (utils) => {
      const nameIt = () => {
        const shown = utils.sanitise_display_name(input.value);
        return { shown, name: shown && utils.safe_slug(shown) };
      };
      input.addEventListener("input", () => {
        const { name } = nameIt();
        const taken = name === "jupyter" || cards.some((card) => card.isConnected && card.dataset.server === name);
        input.setCustomValidity(taken ? "You have a server of this name already: choose another." : "");
        setText(find("new-name", form), name ? `Its name will be ${name}${taken ? ", which is taken: choose another" : ""}.` : "");
      });
      form.addEventListener("submit", (event) => {
        event.preventDefault();
        const { shown, name } = nameIt();
        if (name) location.assign(`${base}spawn/${encodeURIComponent(user)}/${name}?display_name=${encodeURIComponent(shown)}`);
      });
    });
  }

  setInterval(checkStarts, 10_000);
  if (newsUrl) {
    askNews = window.ds01.poll(`${newsUrl}api/servers`, {
      headers: { Authorization: `token ${newsToken}` },
      onData: showNews,
      onTrouble: (trouble) =>
        setText(find("news"), {
          refused: "This page has stood open for long: load it anew to see how your servers are.",
          away: "How your servers are is not known just now; it is asked again.",
        }[trouble] || ""),
    });
    setInterval(showAll, 30_000);
  }
})();
