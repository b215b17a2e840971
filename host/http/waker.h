/* waker.h - a call on [main] that any thread can ask for. Under http/'s media routes. */
#ifndef HTTP_WAKER_H
#define HTTP_WAKER_H

#include <glib.h>

typedef struct waker waker;

/* fn(ctx) is called on the main loop of the default context after waker_wake; several wakes before
 * it are one. [main] */
waker *waker_new(void (*fn)(void *ctx), void *ctx);
void waker_free(waker *w); /* no call comes after this; NULL is fine [main] */
void waker_wake(waker *w); /* [any] */
/* Wake it so many milliseconds later, unless it is woken earlier. Within fn alone. */
void waker_later(waker *w, int ms);

#endif
