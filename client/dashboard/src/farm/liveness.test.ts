import { describe, expect, test } from "vitest";
import { controlStatus, workerPresence } from "./liveness";
import { addSample, failureShare, rateOf, type Sample } from "./rates";
import { emptyState, type Worker } from "./state";

const HEARTBEAT = { epoch: "e", sequence: 1, interval: 1 };

describe("given a page that listens since 0 ms", () => {
  test.each([
    [10_000, 12_000, "online"],
    [10_000, 14_500, "silent"],
    [0, 3_000, "unheard"],
    [0, 5_000, "silent"],
  ])("when the last heartbeat was at %i and it is %i, then control is %s", (heard, now, phase) => {
    const state = emptyState();
    if (heard > 0) {
      state.heartbeat = HEARTBEAT;
      state.heartbeatAt = heard;
    }
    const status = controlStatus(state, 0, now);
    expect(status.phase).toBe(phase);
    if (status.phase === "silent") expect(status.since).toBe(heard);
  });

  const worker = (phase: string, heardAt: number): Worker => ({
    id: "w",
    state: { state: phase, session: "s", version: "", serials: [], draining: null },
    heartbeat: null,
    heardAt,
    samples: [],
  });

  test.each([
    ["ready", 19_500, 20_000, "fresh"],
    ["ready", 10_000, 20_000, "silent"],
    ["ready", 10_000, 5_000, "fresh"], // control is silent itself: nobody echoes
    ["lost", 19_500, 20_000, "lost"],
    ["init", 0, 20_000, "starting"],
  ])(
    "when a worker that is %s was heard at %i and control at %i, then it is %s",
    (phase, heard, beat, is) => {
      const state = emptyState();
      state.heartbeat = HEARTBEAT;
      state.heartbeatAt = beat;
      expect(workerPresence(worker(phase, heard), state, 0, 20_500)).toBe(is);
    },
  );
});

test("given a worker's counters, when it starts anew, then its rate does too", () => {
  const samples: Sample[] = [];
  const beat = (session: string, results: number, failures: number) => ({
    session,
    load: { devices: 1, serving: 1, queued: 0, results, failures },
  });
  addSample(samples, 0, beat("a", 100, 0));
  addSample(samples, 10_000, beat("a", 190, 10));
  expect(rateOf(samples)).toEqual({ results: 9, failures: 1 });
  expect(failureShare(rateOf(samples))).toBeCloseTo(0.1);
  addSample(samples, 11_000, beat("b", 0, 0));
  expect(rateOf(samples)).toBeNull();
});
