import { defineConfig } from "vitest/config";

/** Where `icebus dashboard` listens while the page is worked on with `npm run dev`. */
const server = "http://127.0.0.1:8470";

/** The server refuses pages of other origins, so the proxy speaks in its name. */
const proxied = { target: server, changeOrigin: true, headers: { origin: server } };

export default defineConfig({
  base: "./",
  build: {
    outDir: "../icebus/client/dashboard/page",
    emptyOutDir: true,
    target: "es2022",
    // A small image inside the script or the style sheet would need data: in more places of the CSP.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: {
    proxy: {
      "/farm.json": proxied,
      "/sign-in": proxied,
      "/mqtt": { ...proxied, ws: true },
    },
  },
  // On a machine that is busy with other tests, some take ten times as long as alone.
  test: { include: ["src/**/*.test.ts"], testTimeout: 60_000 },
});
