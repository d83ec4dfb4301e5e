"""The HTTP server over the served version of a store, and its page.

In reading order:

    app          the FastAPI application, put together
    limits       bounds of requests, and the token
    guard        ASGI middleware: host, token, body size, timeout, headers
    refusals     errors as JSON responses
    parameters   refuses query parameters that a route does not have
    served_version  the served version, opened, and replaced when another one is served
    context      what route handlers share: the request's version, JSON bodies, responses
    models       request bodies and responses as pydantic models
    batcher      waiting queries merged into one search of the index
    long_tasks   work that outlives a request, with progress
    counters     metrics for Prometheus

    routes       the endpoints
    page         the page: HTML, CSS and JavaScript modules without a build step
"""
