/** Which view is shown, and with what: it stands in the address, so that it can be passed on. */

import { signal } from "@preact/signals";

export const VIEWS = [
  "farm",
  "boards",
  "board",
  "reservations",
  "activity",
  "experiment",
  "logs",
] as const;
export type View = (typeof VIEWS)[number];

export interface Route {
  readonly view: View;
  /** What the view is about, such as a serial. */
  readonly id: string;
  readonly params: URLSearchParams;
}

/** The route that a URL's fragment names; the farm where it names none. */
export function parseRoute(fragment: string): Route {
  const [path = "", query = ""] = fragment.replace(/^#\/?/, "").split("?", 2);
  const [name = "", id = ""] = path.split("/", 2);
  const view = VIEWS.find((each) => each === name) ?? "farm";
  return { view, id: decoded(id), params: new URLSearchParams(query) };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The fragment of a route; parameters that are empty are left out. */
export function link(view: View, id = "", params: Record<string, string> = {}): string {
  const given = Object.entries(params).filter(([, value]) => value !== "");
  const query = new URLSearchParams(given).toString();
  const path = id === "" ? view : `${view}/${encodeURIComponent(id)}`;
  return `#/${path}${query === "" ? "" : `?${query}`}`;
}

export const route = signal<Route>(parseRoute(""));

export function followAddress(): void {
  const read = (): void => {
    route.value = parseRoute(location.hash);
  };
  addEventListener("hashchange", read);
  read();
}

/** Change parameters of the view in place: no step of the browser's history for each letter typed. */
export function setParams(changes: Record<string, string>): void {
  const { view, id, params } = route.value;
  const next = { ...Object.fromEntries(params), ...changes };
  history.replaceState(null, "", link(view, id, next));
  route.value = parseRoute(location.hash);
}
