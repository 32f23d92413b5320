import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { apply, emptyState, type FarmState, MOST_HAPPENINGS, mergeHistory } from "./state";

function put(state: FarmState, topic: string, message: unknown, at = 1) {
  const payload = message === null ? "" : JSON.stringify(message);
  return apply(state, { topic, payload: new TextEncoder().encode(payload), at });
}

const REPORT = { serial: "A1", state: "ready", since: "2026-11-22T17:07:43Z", session: "s" };
const RESERVATION = {
  id: "r1",
  revision: 2,
  user: "alice",
  kind: "pulsecount",
  state: "active",
  devices: [],
  created: "2026-11-22T17:07:41Z",
  until: "2026-11-22T18:07:41Z",
};

describe("given an empty farm", () => {
  test("when a board is reported and forgotten, then it is there and gone", () => {
    const state = emptyState();
    expect(put(state, "worker/w/device/A1", REPORT)).toBe("boards");
    expect(state.boards.get("w/A1")?.report.state).toBe("ready");
    expect(put(state, "worker/w/device/A1", null)).toBe("boards");
    expect(state.boards.size).toBe(0);
  });

  test("when a board is in a state that this page does not know, then it is shown all the same", () => {
    const state = emptyState();
    put(state, "worker/w/device/A1", { ...REPORT, state: "levitating", colour: "blue" });
    expect(state.boards.get("w/A1")?.report.state).toBe("levitating");
  });

  test("when an older revision of a reservation comes later, then the newer one stands", () => {
    const state = emptyState();
    put(state, "control/reservation/r1", RESERVATION);
    expect(put(state, "control/reservation/r1", { ...RESERVATION, revision: 1 })).toBeNull();
    expect(state.reservations.get("r1")?.revision).toBe(2);
  });

  test("when anything at all comes on any topic, then nothing throws and other things stay", () => {
    const topics = fc.constantFrom(
      "worker/w/device/A2",
      "worker/w/state",
      "worker/w/heartbeat",
      "worker/w/event",
      "control/heartbeat",
      "control/history",
      "control/main/state",
      "control/claim/A2",
      "control/reservation/r2",
      "broker/principals",
      "log/worker/w/info",
      "log/worker/w",
      "user/u/reservation/r/log/w/A2",
      "what/ever",
    );
    const payloads = fc.oneof(
      fc.uint8Array({ minLength: 1 }),
      fc.json().map((text) => new TextEncoder().encode(text)),
    );
    fc.assert(
      fc.property(topics, payloads, (topic, payload) => {
        const state = emptyState();
        put(state, "worker/w/device/A1", REPORT);
        apply(state, { topic, payload, at: 2 });
        expect(state.boards.get("w/A1")?.report.state).toBe("ready");
      }),
    );
  });

  test("when a payload can't be read, then its topic and the reason are kept, once", () => {
    const state = emptyState();
    for (const at of [1, 2]) {
      expect(put(state, "worker/w/device/A1", { serial: 3 }, at)).toBe("unreadable");
    }
    expect([...state.unreadable.values()]).toMatchObject([
      { topic: "worker/w/device/A1", at: 2, count: 2, why: expect.stringContaining("serial") },
    ]);
  });

  test("when events come without end, then the newest are kept", () => {
    const state = emptyState();
    for (let number = 0; number < 3 * MOST_HAPPENINGS; number += 1) {
      const at = new Date(number * 1000).toISOString();
      put(state, "worker/w/event", { event: "state", serial: "A1", at, state: "ready" });
    }
    expect(state.happenings.length).toBeLessThanOrEqual(1.1 * MOST_HAPPENINGS);
    expect(state.happenings.at(-1)?.at).toBe((3 * MOST_HAPPENINGS - 1) * 1000);
  });
});

test("given histories that overlap, when they are merged, then each entry is there once, newest first", () => {
  const entries = fc.uniqueArray(fc.nat(1000));
  const entry = (number: number) => ({
    number,
    at: number,
    event: "reserved",
    actor: "alice",
    reservation: null,
    user: null,
    serial: null,
    worker: null,
    reason: "",
  });
  fc.assert(
    fc.property(entries, entries, (first, second) => {
      const merged = mergeHistory(first.map(entry), second.map(entry)).map((each) => each.number);
      expect(merged).toEqual([...new Set([...first, ...second])].sort((a, b) => b - a));
    }),
  );
});
