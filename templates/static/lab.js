// The lab's page: shows what the service says, again and again, and asks before it does anything.
"use strict";

(function () {
  const page = JSON.parse(document.getElementById("ds01-page").textContent);
  const { nameProfile, nameGpu, nameSlot, writeMemory, writeUse, writeSummary, writeMoment } = window.ds01.words;
  const headers = { "X-XSRFToken": page.xsrf };
  const find = (id) => document.getElementById(id);
  // A GPU has so many parts in its bar: sevenths and eighths are whole numbers of them.
  const whole = 56;
  const slots = new Map();
  const gpus = new Map();

  // times, which pass ---------------------------------------------------------------------------------

  function showMoments() {
    for (const element of document.querySelectorAll("[data-at]")) {
      put(element, element.dataset.at ? writeMoment(element) : element.dataset.none || "");
    }
  }

  // what is there, changed in place ---------------------------------------------------------------------

  function put(element, text) {
    if (element && element.textContent !== text) element.textContent = text;
  }

  function fill(element, values) {
    for (const [name, value] of Object.entries(values)) {
      for (const field of element.querySelectorAll(`:scope [data-field="${name}"]`)) {
        if (field.dataset.at !== undefined) {
          field.dataset.at = value || "";
        } else {
          put(field, value === null || value === undefined ? "" : String(value));
        }
      }
    }
  }

  /** Let `list` have one child for each item, by its key; what is there already stays the same element. */
  function sync(list, items, template, key, show) {
    const wanted = new Set(items.map((item) => String(key(item))));
    const there = new Map();
    for (const child of [...list.children]) {
      if (wanted.has(child.dataset.key)) there.set(child.dataset.key, child);
      else child.remove();
    }
    items.forEach((item, place) => {
      let child = there.get(String(key(item)));
      if (!child) {
        child = find(template).content.firstElementChild.cloneNode(true);
        child.dataset.key = key(item);
      }
      show(child, item);
      if (list.children[place] !== child) list.insertBefore(child, list.children[place] || null);
    });
  }

  function mark(element, slot) {
    if (element.dataset.state !== slot.state) element.dataset.state = slot.state;
    element.toggleAttribute("data-mine", slot.mine);
  }

  function showSlice(element, slot) {
    mark(element, slot);
    element.dataset.share = Math.max(1, Math.round(slot.share * whole));
    const kind = nameProfile(slot.profile);
    const whose = slot.mine ? ", yours" : slot.user ? `, ${slot.user}` : "";
    element.title = `${nameSlot(slot)}: ${kind}, ${slot.state}${whose}`;
    fill(element, {
      index: slot.id || "?",
      symbol: page.symbols[slot.state] || "",
      state: slot.state,
      words: `${kind}${whose}`,
    });
  }

  function showRow(element, slot) {
    const lease = slot.lease;
    slots.set(slot.uuid, slot);
    fill(element, {
      index: slot.id || "?",
      profile: nameProfile(slot.profile),
      memory: slot.memory_mib ? writeMemory(slot.memory_mib) : "",
      state: slot.state,
      user: slot.mine ? "you" : slot.user,
      server: lease ? lease.name || "no server" : "",
      origin: slot.origin,
      since: lease && lease.since,
      until: lease && lease.until,
      use: writeUse(slot.use),
      why: lease && lease.ending ? `is being ended: ${lease.ending}` : slot.why,
    });
    mark(element.querySelector(".ds01-state"), slot);
    const server = element.querySelector('bdi[data-field="server"]');
    if (server) server.title = lease ? lease.container : "";
    offer(element, {
      stop: lease && lease.may_stop ? `Stop what runs on ${nameSlot(slot)}` : "",
      extend: lease && lease.may_extend ? `Extend the server on ${nameSlot(slot)}` : "",
      drain: page.lab.may_manage && !slot.marks.includes("drained") ? `Drain ${nameSlot(slot)}` : "",
      undrain: page.lab.may_manage && isOut(slot) ? `Undrain ${nameSlot(slot)}` : "",
    });
  }

  const isOut = (slot) => slot.marks.includes("drained") || slot.marks.includes("unhealthy");

  function offer(element, labels) {
    for (const [action, label] of Object.entries(labels)) {
      const button = element.querySelector(`:scope [data-action="${action}"]`);
      if (!button) continue;
      button.hidden = !label;
      if (label) button.setAttribute("aria-label", label);
    }
  }

  function showGpu(element, gpu) {
    gpus.set(gpu.uuid, gpu);
    put(element.querySelector('[data-field="title"]'), nameGpu(gpu));
    put(element.querySelector('[data-field="name"]'), gpu.name);
    element.setAttribute("aria-label", nameGpu(gpu));
    element.querySelector(".table-responsive").setAttribute("aria-label", `Table of ${nameGpu(gpu)}`);
    const bar = element.querySelector('[data-list="slices"]');
    const cut = gpu.slots.reduce((sum, slot) => sum + slot.share, 0);
    bar.dataset.rest = Math.max(0, whole - Math.round(cut * whole));
    sync(bar, gpu.slots, "slice", (slot) => slot.uuid, showSlice);
    const row = page.lab.sees_all ? "full-row" : "plain-row";
    sync(element.querySelector('[data-list="rows"]'), gpu.slots, row, (slot) => slot.uuid, showRow);
    const head = element.querySelector(".ds01-gpu-head");
    const canManage = page.lab.may_manage && gpu.slots.length > 1;
    offer(head, {
      drain: canManage && gpu.slots.some((slot) => !slot.marks.includes("drained")) ? `Drain all of ${nameGpu(gpu)}` : "",
      undrain: canManage && gpu.slots.some(isOut) ? `Undrain all of ${nameGpu(gpu)}` : "",
    });
  }

  function showPlace(element, place) {
    fill(element, {
      position: place.position,
      user: place.mine ? "you" : place.user,
      server: place.name,
      wish: `${place.count} × ${nameProfile(place.profile)}`,
      since: place.since,
      expected: place.expected_at,
    });
    element.querySelector('[data-field="expected"]').dataset.none = "not known";
  }

  function showEvent(element, event) {
    const { at, kind, who, name: server, why } = event;
    fill(element, { at, kind, who, server, why, slots: event.slots.join(", ") });
  }

  function list(name) {
    return document.querySelector(`[data-list="${name}"]`);
  }

  function show(lab) {
    const focused = document.activeElement;
    const mayDiffer = lab.sees_all !== page.lab.sees_all || lab.may_manage !== page.lab.may_manage;
    if (mayDiffer) {
      showTrouble("refused");
      return;
    }
    page.lab = lab;
    put(find("problem"), lab.problem || "");
    find("problem").hidden = !lab.problem;
    put(find("summary"), writeSummary(lab));
    sync(find("gpus"), lab.gpus, "gpu-section", (gpu) => gpu.uuid, showGpu);
    if (list("mine")) {
      const mine = lab.gpus.flatMap((gpu) => gpu.slots).filter((slot) => slot.mine);
      sync(list("mine"), mine, "full-row", (slot) => slot.uuid, showRow);
      find("mine").hidden = !mine.length;
    }
    sync(list("places"), lab.queue.places, "place-row", (place) => place.id, showPlace);
    find("queue").hidden = !lab.queue.places.length;
    if (list("events")) sync(list("events"), lab.events, "event-row", (event) => event.id, showEvent);
    showMoments();
    announce(writeSummary(lab));
    // A button that is gone must not take the keyboard's place with it.
    const isLost = focused !== document.body && (!focused.isConnected || focused.hidden);
    if (isLost && !find("ask").open) find("title").focus();
  }

  // what a screen reader hears: seldom, and only what is new ----------------------------------------------

  const quietMilliseconds = 15000;
  let told = writeSummary(page.lab);
  let toldAt = 0;

  function announce(words) {
    if (words === told || Date.now() - toldAt < quietMilliseconds) return;
    told = words;
    toldAt = Date.now();
    put(find("announcement"), words);
  }

  function showTrouble(kind) {
    const words = {
      refused: "This page does not refresh any more, since you were signed out or may see other things now. Load it anew.",
      away: "The service does not answer just now. What you see may be old; it is tried again.",
    };
    find("trouble").hidden = !kind;
    put(find("trouble"), words[kind] || "");
  }

  // what is done, once it was asked back -------------------------------------------------------------------

  let pending = null;

  function describe(action, slot, gpu) {
    const what = slot ? `slot ${nameSlot(slot)}` : `all slots of ${nameGpu(gpu)}`;
    const lease = slot && slot.lease;
    const whose = lease && (slot.mine ? "your" : `${slot.user}'s`);
    const server = lease && (lease.name ? `server ${lease.name}` : "slot without a server");
    return {
      stop: () => ({
        title: `Stop ${whose} ${server}?`,
        what: "All that runs in it ends, the container is removed and the slots are free. Files in the workspace and the home stay.",
        path: `leases/${lease.id}/stop`,
        yes: "Stop it",
        done: `${whose} ${server} is stopped.`,
      }),
      extend: () => ({
        title: `Give ${whose} ${server} more time?`,
        what: "The hours are added to the end of its run time.",
        path: `leases/${lease.id}/extend`,
        yes: "Give more time",
        done: `${whose} ${server} has more time.`,
        hours: true,
      }),
      drain: () => ({
        title: `Drain ${what}?`,
        what: "Nobody gets it any more until it is undrained. Who has it now keeps it.",
        path: `slots/${encodeURIComponent(slot ? slot.uuid : gpu.uuid)}/drain`,
        yes: "Drain",
        done: `${what} is drained.`,
      }),
      undrain: () => ({
        title: `Undrain ${what}?`,
        what: "It is handed out again, also if it was taken out of use for an error that it reported.",
        path: `slots/${encodeURIComponent(slot ? slot.uuid : gpu.uuid)}/undrain`,
        yes: "Undrain",
        done: `${what} is in use again.`,
      }),
    }[action]();
  }

  function askBack(button) {
    const key = button.closest("[data-key]").dataset.key;
    const slot = button.closest("tr") ? slots.get(key) : null;
    pending = describe(button.dataset.action, slot, gpus.get(key));
    const needsReason = !(slot && slot.mine && pending.path.startsWith("leases/"));
    put(find("ask-title"), pending.title);
    put(find("ask-what"), pending.what);
    put(find("ask-yes"), pending.yes);
    find("ask-hours-part").hidden = !pending.hours;
    find("ask-hours").disabled = !pending.hours;
    find("ask-reason").value = "";
    find("ask-reason").required = needsReason;
    const readers = "It stands in the history" + (needsReason ? ", and who is concerned reads it." : ". You may leave it out.");
    put(find("ask-reason-help"), readers);
    refuse("");
    find("ask").showModal();
    find(pending.hours ? "ask-hours" : "ask-reason").focus();
  }

  function refuse(words) {
    find("ask-error").hidden = !words;
    put(find("ask-error"), words);
  }

  async function send(event) {
    event.preventDefault();
    const asked = pending;
    const body = { reason: find("ask-reason").value };
    if (asked.hours) body.hours = find("ask-hours").valueAsNumber;
    find("ask-yes").disabled = true;
    put(find("ask-yes"), "Please wait …");
    refuse("");
    try {
      const answer = await fetch(page.api + asked.path, { method: "POST", headers, body: JSON.stringify(body) });
      const said = await answer.json();
      if (!answer.ok) throw new Error(said.message);
      find("ask").close();
      toldAt = 0;
      announce(asked.done);
      refresh();
    } catch (error) {
      refuse(error instanceof TypeError ? "The service does not answer. Please try again." : error.message);
    } finally {
      find("ask-yes").disabled = false;
      put(find("ask-yes"), asked.yes);
    }
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-action]");
    if (button) askBack(button);
  });
  find("ask-form").addEventListener("submit", send);
  find("ask-no").addEventListener("click", () => find("ask").close());

  show(page.lab);
  setInterval(showMoments, 30000);
  const refresh = window.ds01.poll(`${page.api}gpus`, { headers, onData: show, onTrouble: showTrouble });
})();
