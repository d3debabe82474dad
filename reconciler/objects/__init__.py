"""Policy files in; typed objects that know file, line and column out. One reader a policy API."""
