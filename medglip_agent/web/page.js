// Runs once in the page: links citations, boxes and list rows, and hides boxes below the score slider.
() => {
  const each = (selector, act) => document.querySelectorAll(selector).forEach(act);
  const light = (id) => {
    each(".mg-lit", (el) => el.classList.remove("mg-lit"));
    each(".mg-picture", (el) => el.classList.toggle("mg-focus", id !== null));
    if (id !== null) each(`[data-region="${id}"]`, (el) => el.classList.add("mg-lit"));
  };
  const regionOf = (target) => {
    const el = target instanceof Element && target.closest('[data-region], a[href^="#R"]');
    if (!el) return null;
    const id = el.dataset.region ?? el.getAttribute("href").slice(2);
    return /^\d+$/.test(id) ? id : null;
  };
  let pinned = null;
  document.addEventListener("mouseover", (event) => light(regionOf(event.target) ?? pinned));
  document.addEventListener("focusin", (event) => light(regionOf(event.target) ?? pinned));
  document.addEventListener("click", (event) => {
    const id = regionOf(event.target);
    if (id !== null && event.target.closest("a")) {
      event.preventDefault();
      document.querySelector(".mg-stage")?.scrollIntoView({ block: "nearest", behavior: "smooth" });
    }
    pinned = id === pinned ? null : id;
    light(id === null ? null : pinned);
  }, true);

  // A drag over the picture marks a part of it: its corners, in pixels of the image, go into the field.
  let drag = null;
  const at = (event, frame) => {
    const edge = frame.getBoundingClientRect();
    const part = (value, start, length) => Math.min(1, Math.max(0, (value - start) / length));
    return [part(event.clientX, edge.left, edge.width), part(event.clientY, edge.top, edge.height)];
  };
  const corners = (event) => {
    const [x, y] = at(event, drag.frame);
    return [Math.min(x, drag.x), Math.min(y, drag.y), Math.max(x, drag.x), Math.max(y, drag.y)];
  };
  const write = (text) => {
    const field = document.querySelector("#mg-box textarea, #mg-box input");
    if (!field) return;
    Object.getOwnPropertyDescriptor(Object.getPrototypeOf(field), "value").set.call(field, text);
    field.dispatchEvent(new Event("input", { bubbles: true }));
  };
  document.addEventListener("pointerdown", (event) => {
    const frame = event.target instanceof Element ? event.target.closest(".mg-picture") : null;
    if (!frame || event.button !== 0 || event.pointerType === "touch") return;
    const [x, y] = at(event, frame);
    drag = { frame, x, y, mark: null };
  });
  document.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const [x1, y1, x2, y2] = corners(event);
    if (!drag.mark && Math.max(x2 - x1, y2 - y1) < 0.01) return;
    if (!drag.mark) {
      each(".mg-mark", (el) => el.remove());
      drag.mark = drag.frame.appendChild(Object.assign(document.createElement("div"), { className: "mg-mark" }));
    }
    const percent = (value) => `${100 * value}%`;
    Object.assign(drag.mark.style, {
      left: percent(x1), top: percent(y1), width: percent(x2 - x1), height: percent(y2 - y1),
    });
  });
  document.addEventListener("pointerup", (event) => {
    if (drag?.mark) {
      const { width, height } = drag.frame.dataset;
      const box = corners(event).map((part, i) => Math.round(part * (i % 2 ? height : width)));
      write(box.join(", "));
    }
    drag = null;
  });
}
