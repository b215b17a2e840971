/* pending.c - stands in for parts that are not there yet; goes away with them. */
#include "http/app.h"

const route scope_routes[1] = {{0}};
const route daydream_routes[1] = {{0}};
