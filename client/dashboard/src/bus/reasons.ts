/** Why a connection was refused or has ended, in words. */

/** MQTT 5 reason codes with which no further attempt makes sense: the account is not taken. */
const REFUSED: ReadonlyMap<number, string> = new Map([
  [0x85, "The broker does not take this connection's name. Sign in again."],
  [0x86, "The name or the password is wrong."],
  [0x87, "The name or the password is wrong, the account has ended, or too many attempts failed."],
  [0x8a, "The broker has banned this connection. Ask your administrator."],
]);

const PASSING: ReadonlyMap<number, string> = new Map([
  [0x88, "the broker is not available"],
  [0x89, "the broker is busy"],
  [0x8b, "the broker is shutting down"],
  [0x8d, "the broker did not hear this page in time"],
  [0x8e, "another connection took this one's name"],
  [0x93, "the broker could not keep up with this page"],
  [0x95, "a message was larger than the broker takes"],
  [0x96, "the broker found the page too eager"],
  [0x97, "the broker's quota is used up"],
  [0x98, "an administrator ended the connection"],
  [0x9f, "the broker takes no more connections at the moment"],
]);

/** What the dashboard's server says by closing a WebSocket. */
const CLOSED: ReadonlyMap<number, string> = new Map([
  [1000, "the connection was closed"],
  [1001, "the dashboard is stopping"],
  [1006, "no answer"],
  [4001, "the dashboard can't reach the broker"],
  [4002, "the broker closed the connection"],
  [4003, "the dashboard has too many connections"],
  [4004, "the dashboard did not take this page's words for MQTT"],
]);

/** What to tell a person whose account was refused; null where trying again may help. */
export function refusal(code: number | undefined): string | null {
  return code === undefined ? null : (REFUSED.get(code) ?? null);
}

/** Why the broker ended or refused a connection. */
export function brokerReason(code: number): string {
  return PASSING.get(code) ?? `the broker said reason ${code}`;
}

/** Why a WebSocket was closed. What the server wrote beside the code is more exact. */
export function closeReason(code: number, text: string): string {
  return text || CLOSED.get(code) || `the connection was closed with code ${code}`;
}

/** Milliseconds until the next attempt: 1 to 5 s, spread so that pages don't come back at once. */
export function pause(attempt: number, random: () => number = Math.random): number {
  const most = Math.min(1000 * 2 ** Math.min(attempt, 8), 4000);
  return 1000 + random() * most;
}
