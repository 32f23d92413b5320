/** Who is signed in, in this tab only: by name and password, or by a link with a token. */

import { signal } from "@preact/signals";
import { Credentials, check, FarmDocument } from "./bus/messages";
import { said } from "./bus/requests";
import { setClock } from "./clock";
import { Session } from "./session";

const KEPT = "icebus.credentials";

export const session = signal<Session | null>(null);
export const farm = signal<FarmDocument | null>(null);
/** What went wrong before anybody was signed in, for people. */
export const trouble = signal("");

/** Follow links that are opened while the page is open. */
export function followLinks(): void {
  // Before the farm is known nothing is: `begin` follows what stands in the address then.
  addEventListener("hashchange", () => farm.value !== null && void followLink());
}

/** Learn of the farm, then sign in whoever has a link or was signed in before a reload. */
export async function begin(): Promise<void> {
  if (!(await learnFarm())) return;
  if (await followLink()) return;
  const kept = sessionStorage.getItem(KEPT);
  if (kept === null) return;
  try {
    signIn(check(Credentials, JSON.parse(kept)));
  } catch {
    sessionStorage.removeItem(KEPT);
  }
}

/** Read the farm's document. Names the address that failed, and tries again until it is there. */
async function learnFarm(): Promise<boolean> {
  const url = new URL("farm.json", document.baseURI).href;
  try {
    const answer = await fetch(url, { cache: "no-store" });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    setClock(answer.headers.get("date"), Date.now());
    farm.value = check(FarmDocument, await answer.json());
    document.title = `${farm.value.farm} – icebus`;
    trouble.value = "";
    return true;
  } catch (error) {
    trouble.value = `${url} can't be read: ${said(error)}. Trying again.`;
    setTimeout(() => void begin(), 3000);
    return false;
  }
}

export function signIn(credentials: Credentials): void {
  const document_ = farm.value;
  if (document_ === null) return;
  session.value?.close();
  sessionStorage.setItem(KEPT, JSON.stringify(credentials));
  const next = new Session(document_, credentials, (why) => {
    trouble.value = why;
    leave();
  });
  trouble.value = "";
  session.value = next;
  next.open();
}

/** Sign out, and forget the password. */
export function signOut(): void {
  trouble.value = "";
  leave();
}

function leave(): void {
  sessionStorage.removeItem(KEPT);
  session.value?.close();
  session.value = null;
}

/** Take the token out of the address, and what it stands for from the server. */
async function followLink(): Promise<boolean> {
  const match = /^#(sign-in|wall)=([^&]+)$/.exec(location.hash);
  const path = farm.value?.signIn?.path;
  if (match === null) return false;
  const [, kind = "", token = ""] = match;
  // A screen on a wall comes back by its address; nobody else's token stays to be seen.
  if (kind === "sign-in") history.replaceState(null, "", location.pathname + location.search);
  if (path === undefined) {
    trouble.value = "This dashboard takes no links. Sign in with name and password.";
    return false;
  }
  try {
    const answer = await fetch(new URL(path, document.baseURI), {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ token: decodeURIComponent(token) }),
    });
    const body: unknown = await answer.json();
    if (!answer.ok) {
      throw new Error((body as { message?: string }).message ?? `status ${answer.status}`);
    }
    signIn(check(Credentials, body));
    return true;
  } catch (error) {
    trouble.value = said(error);
    return false;
  }
}
