// The slice of this server and what is left of its time, in the status bar of JupyterLab; warnings as its
// notifications. Written as JupyterLab loads a prebuilt extension, so that no image has to build one.
(() => {
  "use strict";

  const NAME = "ds01-session";
  const POLL_MS = 30_000;
  const LONGEST_PAUSE_MS = 300_000;
  const REDRAW_MS = 10_000;
  const MINUTE_MS = 60_000;

  let shared = {};

  // Return a package that JupyterLab shares with its extensions, null where it has none of that name.
  async function take(name) {
    const versions = Object.values(shared[name] ?? {});
    const chosen = versions.find((one) => one.loaded) ?? versions.find((one) => one.eager) ?? versions.at(-1);
    return chosen ? (await chosen.get())() : null;
  }

  // wording ---------------------------------------------------------------------------------------------

  function showSpan(milliseconds) {
    const minutes = Math.floor(milliseconds / MINUTE_MS);
    if (minutes < 1) {
      return "less than a minute";
    }
    const [days, hours, rest] = [Math.floor(minutes / 1440), Math.floor(minutes / 60), minutes % 60];
    if (days >= 2) {
      return `${days} days`;
    }
    return [hours ? `${hours} h` : "", rest ? `${rest} min` : ""].filter(Boolean).join(" ");
  }

  function showTime(milliseconds, now) {
    const moment = new Date(milliseconds);
    const time = moment.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    const isToday = moment.toDateString() === new Date(now).toDateString();
    return isToday ? time : `${time} on ${moment.toLocaleDateString()}`;
  }

  // Return the ends that are known, in milliseconds; null for none.
  function findEnds(session) {
    const read = (text) => (text ? Date.parse(text) : null);
    return { run: read(session.run_until), idle: read(session.idle_until), idleSince: read(session.idle_since) };
  }

  // Return what stands in the status bar: `1g.10gb · 2 h 40 min left`.
  function sumUp(session, now) {
    const { run, idle } = findEnds(session);
    const isIdle = idle !== null && (run === null || idle < run);
    const end = isIdle ? idle : run;
    if (end === null) {
      return session.gpu;
    }
    return `${session.gpu} · ${isIdle ? "idle, " : ""}${showSpan(end - now)} left`;
  }

  // Return all there is to say, a sentence each.
  function explain(session, now) {
    const { run, idle, idleSince } = findEnds(session);
    const slots = session.slots.length ? ` (${session.slots.join(", ")})` : "";
    const said = [`Your server ${session.name} has ${session.gpu}${slots}.`];
    if (run === null) {
      said.push("Its run time has no end.");
    } else {
      said.push(`Its run time ends at ${showTime(run, now)}, in ${showSpan(run - now)}.`);
    }
    if (idle !== null) {
      const since = idleSince === null ? "" : ` since ${showTime(idleSince, now)}`;
      said.push(`It has been idle${since}, and will be stopped at ${showTime(idle, now)} unless it is used.`);
    }
    return said;
  }

  // asking ----------------------------------------------------------------------------------------------

  // Asks the notebook server again and again, but for a page that nobody sees: that would be use of the server.
  class Poll {
    constructor(services, settings, onAnswer) {
      Object.assign(this, { services, settings, onAnswer, etag: "", pause: POLL_MS, timer: 0, isAsking: false });
      document.addEventListener("visibilitychange", () => this.ask());
      this.ask();
    }

    async ask() {
      clearTimeout(this.timer);
      if (document.hidden || this.isAsking) {
        return;
      }
      this.isAsking = true;
      try {
        await this.fetch();
        this.pause = POLL_MS;
      } catch {
        // The server may be stopping, or the network be away: JupyterLab itself says so.
        this.pause = Math.min(2 * this.pause, LONGEST_PAUSE_MS);
      }
      this.isAsking = false;
      this.timer = setTimeout(() => this.ask(), this.pause);
    }

    async fetch() {
      const url = `${this.settings.baseUrl.replace(/\/$/, "")}/ds01/session`;
      const headers = this.etag ? { "If-None-Match": this.etag } : {};
      const answer = await this.services.ServerConnection.makeRequest(url, { headers }, this.settings);
      if (answer.status !== 304) {
        if (!answer.ok) {
          throw new Error(`${answer.status}`);
        }
        const session = await answer.json();
        this.etag = answer.headers.get("ETag") ?? "";
        // The clock of this computer may be wrong; times are the server's.
        const date = Date.parse(answer.headers.get("Date") ?? "");
        this.onAnswer(session, Number.isNaN(date) ? 0 : date - Date.now());
      }
    }
  }

  // showing ---------------------------------------------------------------------------------------------

  function makeButton() {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "jp-StatusBar-TextItem ds01-session";
    button.hidden = true;
    Object.assign(button.style, { background: "none", border: "0", color: "inherit", cursor: "pointer" });
    return button;
  }

  function makeBody(sentences, hubHome) {
    const body = document.createElement("div");
    for (const sentence of sentences) {
      const paragraph = document.createElement("p");
      paragraph.textContent = sentence;
      paragraph.style.marginBottom = "0.5em";
      body.append(paragraph);
    }
    if (hubHome) {
      const link = document.createElement("a");
      Object.assign(link, { href: hubHome, target: "_blank", rel: "noopener" });
      link.textContent = "Your servers in the Hub";
      link.style.textDecoration = "underline";
      body.append(link);
    }
    return body;
  }

  function findHubHome(app) {
    const urls = app.paths?.urls ?? {};
    return urls.hubPrefix ? `${urls.hubHost ?? ""}${urls.hubPrefix.replace(/\/$/, "")}/home` : "";
  }

  // Shows each warning once, and takes it back when it holds no more.
  class Warnings {
    constructor(notification, onClick) {
      Object.assign(this, { notification, onClick, shown: new Map() });
    }

    show(warnings) {
      const keys = new Set(warnings.map((one) => JSON.stringify([one.cause, one.at])));
      for (const [key, id] of this.shown) {
        if (!keys.has(key)) {
          this.notification.dismiss(id);
          this.shown.delete(key);
        }
      }
      for (const warning of warnings) {
        const key = JSON.stringify([warning.cause, warning.at]);
        if (!this.shown.has(key)) {
          const actions = [{ label: "Details", callback: this.onClick }];
          this.shown.set(key, this.notification.warning(warning.message, { autoClose: false, actions }));
        }
      }
    }
  }

  class Session {
    constructor(app, packages, bar) {
      Object.assign(this, { packages, session: {}, skew: 0, hubHome: findHubHome(app), button: makeButton() });
      this.button.addEventListener("click", () => this.open());
      const item = new packages.widgets.Widget({ node: document.createElement("div") });
      item.id = NAME;
      item.node.append(this.button);
      if (bar) {
        bar.registerStatusItem(NAME, { item, align: "right", rank: 1000 });
      } else {
        Object.assign(item.node.style, { display: "flex", alignItems: "center" });
        app.shell.add(item, "top", { rank: 1000 });
      }
      setInterval(() => this.draw(), REDRAW_MS);
      // Notebook has neither a status bar nor a place for notifications.
      const dialogs = { warning: () => this.open(), dismiss: () => {} };
      this.warnings = new Warnings(bar ? packages.apputils.Notification : dialogs, () => this.open());
      const answered = (session, skew) => this.take(session, skew);
      this.poll = new Poll(packages.services, app.serviceManager.serverSettings, answered);
    }

    get now() {
      return Date.now() + this.skew;
    }

    take(session, skew) {
      Object.assign(this, { session, skew });
      this.draw();
      this.warnings.show(session.warnings ?? []);
    }

    draw() {
      this.button.hidden = !this.session.gpu;
      if (this.button.hidden || document.hidden) {
        return;
      }
      const text = sumUp(this.session, this.now);
      const label = [`${text}.`, ...explain(this.session, this.now)].join(" ");
      this.button.textContent = text;
      this.button.title = label;
      this.button.setAttribute("aria-label", label);
      this.button.style.fontWeight = this.session.warnings.length ? "bold" : "";
    }

    open() {
      const { apputils, widgets } = this.packages;
      const said = [...explain(this.session, this.now), ...this.session.warnings.map((one) => one.message)];
      if (this.session.may_extend && this.hubHome) {
        said.push("In the Hub you can give it more time.");
      }
      const body = new widgets.Widget({ node: makeBody(said, this.hubHome) });
      const buttons = [apputils.Dialog.okButton({ label: "Close" })];
      return apputils.showDialog({ title: "Your server", body, buttons });
    }
  }

  // what JupyterLab asks for ----------------------------------------------------------------------------

  async function load() {
    const [apputils, services, statusbar, widgets] = await Promise.all(
      ["@jupyterlab/apputils", "@jupyterlab/services", "@jupyterlab/statusbar", "@lumino/widgets"].map(take),
    );
    const plugin = {
      id: `${NAME}:plugin`,
      description: "Shows the slice of this server and what is left of its time.",
      autoStart: true,
      optional: statusbar ? [statusbar.IStatusBar] : [],
      activate: (app, bar) => {
        if (apputils && services && widgets) {
          new Session(app, { apputils, services, widgets }, bar);
        }
      },
    };
    return { __esModule: true, default: plugin };
  }

  window._JUPYTERLAB ??= {};
  window._JUPYTERLAB[NAME] = {
    init: (scope) => {
      shared = scope;
    },
    get: async () => {
      const module = await load();
      return () => module;
    },
  };
})();
