"""openapi_hooks.py: what Schemathesis has to be told. SDP is text; and where STREAMS names streams, the requests that
do not end one are about those, so that handlers get further than "there is no such stream"."""
import json
import os

import schemathesis

schemathesis.serializer.alias("application/sdp", "text/plain")
known = json.loads(os.environ.get("STREAMS", "[]"))  # objects of names and values of path parameters


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    operation = context.operation
    if not path_parameters or operation.method == "delete":
        return path_parameters
    for values in known:
        if operation.path.startswith(values["under"]):
            return {name: values.get(name, value) for name, value in path_parameters.items()}
    return path_parameters
