"""The host: console, files, devices, memory, processes, batch jobs, versions."""
