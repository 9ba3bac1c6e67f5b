// Past conversations, kept in this browser (localStorage) and read and written here only: the server holds none.
// Runs once, when the page opens; returns the list of what there is.
() => {
  const KEY = "medglip-history";
  const MOST = 50; // conversations; the oldest go
  const NOTHING = { __type__: "update" };
  const UNANSWERED = "*Not answered: the app was stopped, or refused the question.*";
  let current = null; // the one on the page; null = nothing has been asked yet
  const deleted = new Set(); // a piece of its answer may still be on its way

  const stored = () => {
    try {
      const all = JSON.parse(localStorage.getItem(KEY) ?? "[]");
      return Array.isArray(all) ? all.filter((talk) => talk?.id && Array.isArray(talk.messages)) : [];
    } catch {
      return []; // no list of ours, or the browser keeps nothing
    }
  };
  const store = (talks) => {
    for (let kept = talks.slice(0, MOST); ; kept = kept.slice(0, -1)) {
      try {
        return localStorage.setItem(KEY, JSON.stringify(kept));
      } catch {
        if (!kept.length) return; // the browser keeps nothing
      }
    }
  };
  const text = ({ content }) =>
    typeof content === "string" ? content : (content ?? []).map((part) => part.text ?? "").join("");
  const label = ({ at, messages }) => {
    const asked = messages.find((message) => message.role === "user")?.text ?? "";
    const words = asked.replace(/\\(.)/g, "$1").replace(/\s+/g, " ");
    return `${new Date(at).toLocaleString()} · ${words.slice(0, 60)}${words.length > 60 ? " ..." : ""}`;
  };
  const listed = () => ({
    ...NOTHING, choices: stored().map((talk) => [label(talk), talk.id]), value: current,
  });

  // The chat has changed. What is still being written is left out: only a finished answer has its small print.
  const keep = (chat) => {
    if (!chat?.length) {
      current = null;
      return listed();
    }
    if (deleted.has(current)) return NOTHING;
    current ??= crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`; // absent where the page is not local
    const messages = chat
      .map((message) => ({ role: message.role, text: text(message) }))
      .filter((message) => message.role === "user" || message.text.includes("<small>"));
    const all = stored(); // read anew: another tab may have added to it
    const before = all.find((talk) => talk.id === current);
    if (before && JSON.stringify(before.messages) === JSON.stringify(messages)) return NOTHING;
    const talk = { id: current, at: before?.at ?? Date.now(), messages };
    store([talk, ...all.filter((other) => other.id !== current)]);
    return listed();
  };

  // A past conversation as messages of the chat.
  const open = (id) => {
    const talk = stored().find((one) => one.id === id);
    current = talk ? id : null;
    const shown = (talk?.messages ?? []).flatMap((message, i, all) => {
      const silent = message.role === "user" && all[i + 1]?.role !== "assistant";
      return silent ? [message, { role: "assistant", text: UNANSWERED }] : [message];
    });
    const messages = shown.map((message) => ({
      role: message.role, content: [{ type: "text", text: message.text }], metadata: null, options: null,
    }));
    return [messages]; // a list is read as one value an output
  };

  const remove = (id) => {
    if (id) deleted.add(id);
    store(stored().filter((talk) => talk.id !== id));
    return [];
  };

  window.medglipHistory = { keep, open, remove };
  return listed();
}
