"""Reports on finished runs: tables for the terminal, pictures, and one page to show.

Read `page.write_page` first.
"""
