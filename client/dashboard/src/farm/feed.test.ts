import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Inbox, MOST_LINES, MOST_WAITING, matches, RETAINED_WITHIN } from "./feed";

const bytes = (text: string) => new TextEncoder().encode(text);
const DEVICES = ["worker/+/device/+"];

describe("given an inbox", () => {
  test("when a board changes many times between two batches, then only its last state is in them", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(5), { minLength: 1 }), (boards) => {
        const inbox = new Inbox();
        const last = new Map<string, number>();
        boards.forEach((board, at) => {
          const topic = `worker/w/device/${board}`;
          inbox.put({ topic, payload: bytes("{}"), at });
          last.set(topic, at);
        });
        const taken = inbox.take();
        expect(new Map(taken.map(({ topic, at }) => [topic, at]))).toEqual(last);
        expect(taken).toHaveLength(last.size);
        expect(inbox.empty).toBe(true);
      }),
    );
  });

  test("when events come, then each is in the batch, in order", () => {
    const inbox = new Inbox();
    for (const at of [1, 2, 3]) inbox.put({ topic: "worker/w/event", payload: bytes("{}"), at });
    expect(inbox.take().map(({ at }) => at)).toEqual([1, 2, 3]);
  });

  test("when events come without end, then memory has one", () => {
    const inbox = new Inbox();
    const payload = bytes("{}");
    for (let at = 0; at < MOST_WAITING + 5; at += 1)
      inbox.put({ topic: "worker/w/event", payload, at });
    expect(inbox.take()).toHaveLength(MOST_WAITING);
    expect(inbox.dropped).toBe(5);
  });

  test("when a component floods its log, then what of it waits is bounded and others' lines come", () => {
    const inbox = new Inbox();
    for (let at = 0; at < 3 * MOST_LINES; at += 1)
      inbox.put({ topic: "log/worker/stolen/info", payload: bytes("{}"), at });
    inbox.put({ topic: "log/control/main/info", payload: bytes("{}"), at: 0 });
    expect(inbox.take()).toHaveLength(MOST_LINES + 1);
    expect(inbox.floodOf).toBe("worker stolen");
    inbox.put({ topic: "log/worker/stolen/info", payload: bytes("{}"), at: 0 });
    expect(inbox.take()).toHaveLength(1);
  });

  test("when it is subscribed anew, then what is not said again goes, and the rest stays", () => {
    const inbox = new Inbox();
    for (const board of ["A", "B"]) {
      inbox.put({ topic: `worker/w/device/${board}`, payload: bytes("{}"), at: 0 });
    }
    inbox.put({ topic: "control/reservation/r", payload: bytes("{}"), at: 0 });
    inbox.take();
    inbox.expect(DEVICES, 1000);
    inbox.put({ topic: "worker/w/device/A", payload: bytes("{}"), at: 1100 });
    inbox.take();
    inbox.sweep(1000 + RETAINED_WITHIN - 1);
    expect(inbox.empty).toBe(true);
    inbox.sweep(1000 + RETAINED_WITHIN);
    expect(inbox.take()).toMatchObject([{ topic: "worker/w/device/B", payload: new Uint8Array() }]);
    inbox.sweep(1e9);
    expect(inbox.empty).toBe(true);
  });
});

test("given a filter, when topics are matched, then levels count", () => {
  expect(matches("worker/+/device/+", "worker/w/device/A")).toBe(true);
  expect(matches("worker/+/device/+", "worker/w/device")).toBe(false);
  expect(matches("worker/+/device/B", "worker/w/device/A")).toBe(false);
});
